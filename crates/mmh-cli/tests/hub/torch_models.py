"""What people with torch run against a hub: a model is pushed, loaded elsewhere, trained a step and pushed again.

`HF_ENDPOINT` names the server. Every tensor that comes back is compared, and what the model makes of some input.
"""

import torch
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertForMaskedLM


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def masked(name, **options):
    return AutoModelForMaskedLM.from_pretrained(name, **options)


torch.manual_seed(1)
config = BertConfig(
    vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
)
model = BertForMaskedLM(config)
model.push_to_hub("acme/torch")
again = masked("acme/torch")
same(model, again)
ids = torch.arange(20).reshape(2, 10)
answers = [one.eval()(ids, attention_mask=torch.ones_like(ids)).logits for one in (model, again)]
assert torch.equal(*answers)

# A step of training, over the first version; that can still be had.
optimizer = torch.optim.AdamW(again.train().parameters(), lr=1e-4)
again(ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
optimizer.step()
first = again.push_to_hub("acme/torch", commit_message="a step")
trained = masked("acme/torch")
same(again, trained)
assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters()))
encoder = AutoModel.from_pretrained("acme/torch", add_pooling_layer=False)
assert torch.equal(encoder.embeddings.word_embeddings.weight, trained.bert.embeddings.word_embeddings.weight)

# Another element type, and several files.
half = trained.half()
half.push_to_hub("acme/torch-half", max_shard_size="200KB")
loaded = masked("acme/torch-half", torch_dtype="auto")
assert loaded.dtype == torch.float16
same(half, loaded)
