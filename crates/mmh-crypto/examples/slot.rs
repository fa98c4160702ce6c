//! A key slot on the command line, for trying it against stock age tools.
//!
//! ```text
//! slot new                           prints an identity and its recipient
//! slot encrypt RECIPIENT… < in > out
//! slot encrypt --passphrase TEXT < in > out
//! slot decrypt IDENTITY… < in > out
//! slot decrypt --passphrase TEXT < in > out
//! ```

#![allow(
    clippy::print_stdout,
    reason = "an example of the command line prints its findings"
)]

use std::error::Error;
use std::io::{self, Read, Write};

use mmh_core::ports::Entropy;
use mmh_crypto::age::{self, Cost, Identity, Passphrase, Recipient};

/// The operating system's generator.
#[derive(Debug)]
struct System;

impl Entropy for System {
    fn fill(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::other)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [command, keys @ ..] = args.as_slice() else {
        return Err("say new, encrypt or decrypt".into());
    };
    if *command == "new" {
        let identity = Identity::generate_hybrid(&System)?;
        let text = identity.to_secret_text().ok_or("a key has a text")?;
        let recipient = identity.recipient().ok_or("a key has a recipient")?;
        println!("# public key: {recipient}\n{}", *text);
        return Ok(());
    }
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let passphrase = match keys {
        ["--passphrase", text] => Some(Passphrase::new(text).with_cost(Cost::SCRYPT)),
        _ => None,
    };
    let output = match (*command, passphrase) {
        ("encrypt", Some(passphrase)) => {
            age::encrypt(&[Recipient::Passphrase(passphrase)], &input, &System)?
        }
        ("encrypt", None) => {
            let recipients: Result<Vec<_>, _> = keys.iter().map(|key| key.parse()).collect();
            age::encrypt(&recipients?, &input, &System)?
        }
        ("decrypt", Some(passphrase)) => {
            age::decrypt(&[Identity::Passphrase(passphrase)], &input)?.to_vec()
        }
        ("decrypt", None) => {
            let identities: Result<Vec<_>, _> = keys.iter().map(|key| key.parse()).collect();
            age::decrypt(&identities?, &input)?.to_vec()
        }
        _ => return Err("say new, encrypt or decrypt".into()),
    };
    io::stdout().write_all(&output)?;
    Ok(())
}
