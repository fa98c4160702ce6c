//! Reading an object of a node: again from where it broke off, and packs in checked slices.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use mmh_core::PackId;
use object_store::{GetRange, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Method, Response, StatusCode};

use super::{Node, RANGE, RETRIES_MAX, corrupt, generic, header_number, header_text, lost, pause};
use crate::node::slice::Checker;
use crate::node::wire::{self, Asked};

/// Reads of packs that are at least so long come in slices. Shorter ones are of records, which
/// their readers check, and would be longer by the rest of two groups.
const SLICED_FROM: u64 = 8 << 20;
/// A node that lied so often, and not in a row at one place, is not asked again.
const LIES_MAX: u32 = 2;

/// An object on its way.
#[derive(Debug)]
pub(super) struct Reading {
    node: Node,
    name: String,
    range: Range<u64>,
    object_len: u64,
    /// Up to where it comes in slices, and of which pack; 0 if it does not.
    content_len: u64,
    pack: Option<PackId>,
    /// The next byte to hand out.
    at: u64,
    response: Option<Response>,
    /// Of slices: what came and makes no piece yet.
    buffer: BytesMut,
    checker: Option<Checker>,
    /// Answers in a row that brought nothing.
    failures: u32,
    lies: u32,
}

impl Reading {
    /// Asks for a range, or for everything.
    pub(super) async fn begin(node: Node, name: String, range: Option<&GetRange>) -> Result<Self> {
        let asked = match range {
            None => None,
            Some(GetRange::Bounded(range)) => Some(Asked::Bounded(range.start, range.end)),
            Some(GetRange::Offset(first)) => Some(Asked::From(*first)),
            Some(GetRange::Suffix(n)) => Some(Asked::Suffix(*n)),
        };
        let long = match asked {
            None => true,
            Some(Asked::Bounded(first, end)) => end.saturating_sub(first) >= SLICED_FROM,
            Some(_) => false,
        };
        let mut reading = Self {
            pack: wire::pack_of(&name).filter(|_| long),
            node,
            name,
            range: 0..0,
            object_len: 0,
            content_len: 0,
            at: 0,
            response: None,
            buffer: BytesMut::new(),
            checker: None,
            failures: 0,
            lies: 0,
        };
        match reading.pack {
            Some(_) => reading.first_slice(asked).await?,
            None => reading.first_plain(asked).await?,
        }
        reading.at = reading.range.start;
        Ok(reading)
    }

    async fn first_plain(&mut self, asked: Option<Asked>) -> Result<()> {
        let response = self.ask(wire::OBJECTS, asked).await?;
        let whole = response.status() == StatusCode::OK;
        let (range, len) = match whole {
            true if asked.is_none() => {
                let len = header_number(&response, CONTENT_LENGTH.as_str())?;
                (0..len, len)
            }
            true => return Err(generic("the whole for a part".to_owned())),
            false => content_range(&response)?,
        };
        if asked.is_some_and(|asked| asked.of(len).as_ref() != Some(&range)) {
            return Err(generic("another range than was asked for".to_owned()));
        }
        if whole && len > wire::OBJECT_LEN_MAX {
            return Err(corrupt(format!("an object of {len} bytes")));
        }
        (self.range, self.object_len) = (range, len);
        self.response = Some(response);
        Ok(())
    }

    async fn first_slice(&mut self, asked: Option<Asked>) -> Result<()> {
        let asked = asked.unwrap_or(Asked::From(0));
        let response = self.ask(wire::SLICES, Some(asked)).await?;
        self.object_len = header_number(&response, wire::OBJECT_LEN)?;
        self.content_len = header_number(&response, wire::CONTENT_LEN)?;
        let sane = self.content_len <= self.object_len && self.object_len <= wire::OBJECT_LEN_MAX;
        if !sane {
            return Err(corrupt(format!("a pack of {} bytes", self.object_len)));
        }
        let range = asked.of(self.object_len);
        self.range = range.ok_or_else(|| generic("nothing lies in that range".to_owned()))?;
        self.at = self.range.start;
        self.response = Some(response);
        self.begin_check();
        Ok(())
    }

    async fn ask(&self, root: &str, asked: Option<Asked>) -> Result<Response> {
        let path = format!("{root}{}", self.name);
        let request = || {
            let request = self.node.request(Method::GET, &path);
            match asked {
                Some(asked) => request.header(RANGE, asked.header()),
                None => request,
            }
        };
        self.node.ask(&self.name, request).await
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    pub(super) fn object_len(&self) -> u64 {
        self.object_len
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        let step = |mut reading: Self| async move {
            let next = reading.next().await?;
            Ok(next.map(|bytes| (bytes, reading)))
        };
        futures::stream::try_unfold(self, step).boxed()
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.range.end {
            let sliced = self.at < self.content_len;
            let got = match self.answer(sliced).await {
                Ok(()) if sliced => self.next_piece().await,
                Ok(()) => self.next_plain().await,
                Err(error) => Err(error),
            };
            match got {
                Ok(bytes) if !bytes.is_empty() => {
                    self.failures = 0;
                    self.at += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                // A node, or what came before what was asked for.
                Ok(_) => {}
                Err(error) => {
                    self.response = None;
                    self.failures += 1;
                    if self.failures > RETRIES_MAX || self.lies > LIES_MAX {
                        return Err(error);
                    }
                    // Who lies does not better himself by waiting.
                    if self.lies == 0 {
                        pause(self.failures).await;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Makes sure that an answer is under way that goes on at `at`.
    async fn answer(&mut self, sliced: bool) -> Result<()> {
        // What came in slices ends where the content does.
        if self.response.is_some() && sliced == self.checker.is_some() {
            return Ok(());
        }
        self.response = None;
        let asked = Asked::Bounded(self.at, self.range.end);
        if !sliced {
            self.checker = None;
            let response = self.ask(wire::OBJECTS, Some(asked)).await?;
            if content_range(&response)? != (self.at..self.range.end, self.object_len) {
                return Err(generic("another range than was asked for".to_owned()));
            }
            self.response = Some(response);
            return Ok(());
        }
        let response = self.ask(wire::SLICES, Some(asked)).await?;
        let lens = (
            header_number(&response, wire::CONTENT_LEN)?,
            header_number(&response, wire::OBJECT_LEN)?,
        );
        if lens != (self.content_len, self.object_len) {
            return Err(corrupt("another length than before"));
        }
        self.response = Some(response);
        self.begin_check();
        Ok(())
    }

    fn begin_check(&mut self) {
        self.buffer.clear();
        let sliced = self.at..self.range.end.min(self.content_len);
        let pack = self.pack.filter(|_| !sliced.is_empty());
        self.checker = pack.map(|pack| Checker::new(*pack.digest(), self.content_len, sliced));
    }

    async fn next_plain(&mut self) -> Result<Bytes> {
        let more = chunk(&mut self.response).await?;
        if more.len() as u64 > self.range.end - self.at {
            return Err(generic("more than was asked for".to_owned()));
        }
        Ok(more)
    }

    /// The next piece of a slice, without what was not asked for; nothing if it was a node.
    async fn next_piece(&mut self) -> Result<Bytes> {
        let len = self.checker.as_ref().and_then(Checker::next_len);
        let len = len.ok_or_else(|| generic("a slice that ends too early".to_owned()))?;
        while self.buffer.len() < len {
            let more = chunk(&mut self.response).await?;
            self.buffer.extend_from_slice(&more);
        }
        let piece = self.buffer.split_to(len).freeze();
        let accepted = self.checker.as_mut().map(|checker| checker.accept(&piece));
        let group = match accepted {
            Some(Ok(Some(group))) => group,
            Some(Ok(None)) | None => return Ok(Bytes::new()),
            Some(Err(lie)) => {
                self.lies += 1;
                return Err(corrupt(format!("{}: {lie}", self.name)));
            }
        };
        let end = group.end.min(self.range.end);
        let (first, last) = (self.at.max(group.start) - group.start, end - group.start);
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(piece.len());
        Ok(piece.slice(index(first)..index(last)))
    }
}

async fn chunk(response: &mut Option<Response>) -> Result<Bytes> {
    let early = || generic("an answer that ends too early".to_owned());
    let response = response.as_mut().ok_or_else(early)?;
    match response.chunk().await {
        Ok(Some(more)) => Ok(more),
        Ok(None) => Err(early()),
        Err(error) => Err(lost(&error)),
    }
}

fn content_range(response: &Response) -> Result<(Range<u64>, u64)> {
    let text = header_text(response, CONTENT_RANGE.as_str());
    let range = text.and_then(wire::parse_content_range);
    range.ok_or_else(|| generic("an answer without a range".to_owned()))
}
