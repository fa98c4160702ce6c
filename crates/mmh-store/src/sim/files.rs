//! Staging areas of simulated machines: what was synced outlives a power cut, the rest may not.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::Broken;
use super::disk::{Effect, Renamed, folder};
use super::random::Random;
use super::weather::{Fault, Kind};
use super::world::{Process, State};
use crate::staging::{StagedFile, Staging};

/// The staged files of one machine.
#[derive(Debug, Default)]
pub(super) struct Area {
    files: BTreeMap<u64, Content>,
    next: u64,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced_len: usize,
    /// The process, in which of its lives.
    holder: Option<(usize, u32)>,
}

impl Area {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    fn add(&mut self, content: Content) -> u64 {
        self.next += 1;
        self.files.insert(self.next, content);
        self.next
    }

    /// A dead process holds nothing.
    pub(super) fn release(&mut self, process: usize) {
        for file in self.files.values_mut() {
            file.holder.take_if(|(no, _)| *no == process);
        }
    }

    /// Renamed files whose new name was lost are back.
    pub(super) fn restore(&mut self, bytes: &Bytes) {
        self.add(Content {
            bytes: bytes.to_vec(),
            synced_len: bytes.len(),
            holder: None,
        });
    }

    /// Of what was not synced, a part is left, and may be zeros.
    pub(super) fn power_cut(&mut self, rng: &mut Random) {
        for file in self.files.values_mut() {
            file.holder = None;
            let synced = file.synced_len;
            let kept = rng.index(file.bytes.len() - synced + 1);
            file.bytes.truncate(synced + kept);
            if rng.one_in(3) {
                file.bytes[synced..].fill(0);
            }
        }
    }
}

/// The staging area as one life of a process sees it.
#[derive(Debug, Clone)]
pub(super) struct SimStaging(pub(super) Process);

fn planned() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "planned fault")
}

impl Staging for SimStaging {
    fn create(&self) -> io::Result<Box<dyn StagedFile>> {
        let process = self.0.clone();
        let held = Content {
            holder: Some(process.life()),
            ..Content::default()
        };
        let id = self
            .0
            .step(Kind::File, "create file", "", |state, fault| match fault {
                Fault::None => Ok(state.area(&process).add(held)),
                _ => Err(planned()),
            })?;
        Ok(Box::new(SimFile { process, id }))
    }

    fn orphans(&self) -> io::Result<Vec<Box<dyn StagedFile>>> {
        let process = &self.0;
        let ids = process.step(Kind::File, "orphans", "", |state, fault| {
            if fault != Fault::None {
                return Err(planned());
            }
            let files = state.area(process).files.iter_mut();
            let free = files.filter(|(_, file)| file.holder.is_none());
            let held = free.map(|(id, file)| {
                file.holder = Some(process.life());
                *id
            });
            Ok(held.collect::<Vec<u64>>())
        })?;
        let hold = |id| -> Box<dyn StagedFile> {
            Box::new(SimFile {
                process: process.clone(),
                id,
            })
        };
        Ok(ids.into_iter().map(hold).collect())
    }

    fn settle(&self, object: &str) -> io::Result<()> {
        if self.0.is_local() {
            self.0.sync_folder(folder(object))
        } else {
            Ok(())
        }
    }
}

impl Process {
    /// In a directory a new name lasts only when the directory is synced, which others can come
    /// before.
    pub(super) fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.step(Kind::File, "sync folder", folder, |state, fault| {
            if fault != Fault::None {
                return Err(planned());
            }
            state.sync_folder(folder);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimFile {
    process: Process,
    id: u64,
}

impl SimFile {
    /// Does something with the content, or only half of it, or nothing.
    fn step<T>(
        &self,
        kind: Kind,
        op: &'static str,
        f: impl FnOnce(&mut Content, bool) -> io::Result<T>,
    ) -> io::Result<T> {
        let name = self.id.to_string();
        self.process.step(kind, op, &name, |state, fault| {
            let half = match fault {
                Fault::None | Fault::LostReply => false,
                Fault::Torn => true,
                _ => return Err(planned()),
            };
            let area = state.area(&self.process);
            let content = area.files.get_mut(&self.id);
            let done = f(content.ok_or(io::ErrorKind::NotFound)?, half)?;
            if fault == Fault::None {
                Ok(done)
            } else {
                Err(planned())
            }
        })
    }

    fn look<T>(&self, f: impl FnOnce(&Content) -> T) -> Option<T> {
        self.process
            .look(|state| state.area(&self.process).files.get(&self.id).map(f))
    }

    fn remove(&self, state: &mut State) {
        state.area(&self.process).files.remove(&self.id);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let (process, id) = (&self.process, self.id);
        process.look(|state| {
            if let Some(file) = state.area(process).files.get_mut(&id) {
                file.holder.take_if(|holder| *holder == process.life());
            }
        });
    }
}

impl StagedFile for SimFile {
    fn name(&self) -> String {
        format!("staged file {}", self.id)
    }

    fn len(&self) -> u64 {
        self.look(|file| file.bytes.len() as u64).unwrap_or(0)
    }

    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.step(Kind::Append, "append", |file, half| {
            let bytes = parts.concat();
            let len = if half { bytes.len() / 2 } else { bytes.len() };
            file.bytes.extend_from_slice(&bytes[..len]);
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.step(Kind::File, "read file", |file, _| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let end = start
                .checked_add(buf.len())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let part = file.bytes.get(start..end);
            buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.step(Kind::File, "truncate", |file, _| {
            file.bytes
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
            file.synced_len = file.synced_len.min(file.bytes.len());
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let lies = self.process.is_broken(Broken::Sync);
        self.step(Kind::File, "sync", |file, _| {
            if !lies {
                file.synced_len = file.bytes.len();
            }
            Ok(())
        })
    }

    fn publish(&self, object: &str) -> io::Result<bool> {
        if !self.process.is_local() {
            return Ok(false);
        }
        let process = &self.process;
        let machine = process.machine();
        process.step(Kind::File, "rename", object, |state, fault| {
            if fault != Fault::None {
                return Err(planned());
            }
            let file = state.area(process).files.get(&self.id);
            let file = file.ok_or(io::ErrorKind::NotFound)?;
            let bytes = Bytes::from(file.bytes.clone());
            let synced = bytes.slice(..file.synced_len);
            let lost = synced.len() < bytes.len();
            let effect = Effect::Put {
                name: object.to_owned(),
                bytes,
                create: false,
            };
            state.write(process, effect, Fault::None)?;
            self.remove(state);
            state.was_renamed(
                object,
                Renamed {
                    machine,
                    bytes: synced,
                },
                lost,
            );
            Ok(())
        })?;
        process.sync_folder(folder(object)).map(|()| true)
    }

    fn discard(&self) -> io::Result<()> {
        let process = &self.process;
        process.step(
            Kind::File,
            "discard",
            &self.id.to_string(),
            |state, fault| {
                if fault != Fault::None {
                    return Err(planned());
                }
                self.remove(state);
                Ok(())
            },
        )
    }
}
