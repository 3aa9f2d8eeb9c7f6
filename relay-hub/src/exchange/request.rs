//! Reads a client's request body within its bounds, and decodes it where only a decoded one tells the envelope.
//! Knows codings and limits; knows no vendor and no money.

use std::{io::Read, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use relay_protocol::{Code, Edits, Payload, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::ClientBody;
use crate::{config::Limits, refusal::Refused};

/// A client that sends nothing of an announced body for so long is refused.
const BODY_SILENCE: Duration = Duration::from_secs(30);
/// A body that decodes to no more than this is not judged by its ratio: small ones compress well.
const RATIO_FLOOR: usize = 1024 * KIB;
/// The unit in which memory for bodies is lent.
const KIB: usize = 1024;
/// A body of unknown length is read in steps of this many bytes.
const STEP: usize = 64 * KIB;
/// Less than half of the buffer that a connection reads into.
const SMALL: usize = 3 * KIB;

/// A request's body as it came, and what it says once decoded.
pub(super) struct RequestBody {
    /// The very bytes that the client sent.
    raw: Payload,
    /// The same, decoded: shares its memory with `raw` when there is no coding.
    pub(super) plain: Payload,
    /// Whether `raw` is encoded.
    is_encoded: bool,
    memory: Memory,
}

impl RequestBody {
    /// The bytes that leave, with the head that fits them: the client's own unless there is something to edit, or
    /// they have to be plain for another edit.
    pub(super) fn edited(&self, edits: &Edits, headers: &mut HeaderMap, plain: bool) -> Payload {
        if edits.is_empty() && !(plain && self.is_encoded) {
            return self.raw.clone();
        }
        if self.is_encoded {
            headers.remove(header::CONTENT_ENCODING);
        }
        edits.apply(&self.plain)
    }

    /// What it holds of the hub's memory, for the request that leaves.
    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }
}

/// The share of the hub's memory for bodies that one request holds.
pub(super) struct Memory {
    pool: Arc<Semaphore>,
    lent: Option<OwnedSemaphorePermit>,
}

impl Memory {
    fn new(pool: Arc<Semaphore>) -> Self {
        Self { pool, lent: None }
    }

    fn borrow(&mut self, bytes: usize) -> Result<(), Refused> {
        let units = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let more = self.pool.clone().try_acquire_many_owned(units).map_err(|_| {
            Refusal::new(
                Code::Overloaded,
                "The relay holds as many request bodies as it can; try again shortly.",
            )
            .retry_after(Duration::from_secs(1))
        })?;
        match &mut self.lent {
            Some(lent) => lent.merge(more),
            None => self.lent = Some(more),
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How long the body says that it will be.
pub(super) fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads the whole body: at most `most` bytes as it came and decoded, bounded in silence and in the hub's memory.
///
/// # Errors
/// A body too large, cut, silent, or in a coding that is not known or does not decode.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut ClientBody,
    most: usize,
    limits: &Limits,
    pool: &Arc<Semaphore>,
) -> Result<RequestBody, Refused> {
    let coding = coding(headers)?;
    let mut memory = Memory::new(pool.clone());
    let raw = collect(headers, body, most, &mut memory).await?;
    let Some(coding) = coding else {
        let raw = Payload::new(raw);
        return Ok(RequestBody {
            plain: raw.clone(),
            raw,
            is_encoded: false,
            memory,
        });
    };
    let most = most.min(raw.len().saturating_mul(limits.ratio).max(RATIO_FLOOR));
    memory.borrow(most)?;
    let encoded = raw.clone();
    // Decoding megabytes takes milliseconds, which no other call of this thread should wait for.
    let plain = tokio::task::spawn_blocking(move || decode(coding, &encoded, most))
        .await
        .map_err(|_| Refusal::new(Code::Internal, "The request body could not be decoded."))??;
    Ok(RequestBody {
        raw: Payload::new(raw),
        plain: Payload::new(plain),
        is_encoded: true,
        memory,
    })
}

async fn collect(
    headers: &HeaderMap,
    body: &mut ClientBody,
    most: usize,
    memory: &mut Memory,
) -> Result<Bytes, Refused> {
    let announced = announced(headers);
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most));
    }
    let mut room = announced.unwrap_or(0);
    memory.borrow(room)?;
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = tokio::time::timeout(BODY_SILENCE, body.frame())
        .await
        .map_err(|_| silent())?
    {
        let Ok(chunk) = frame.map_err(|_| cut())?.into_data() else {
            continue;
        };
        let so_far = first.len() + joined.len() + chunk.len();
        if so_far > most {
            return Err(too_large(most));
        }
        if so_far > room {
            let more = (so_far - room).max(STEP);
            memory.borrow(more)?;
            room += more;
        }
        if first.is_empty() && joined.is_empty() {
            first = apart(chunk);
            continue;
        }
        if joined.is_empty() {
            joined.reserve(room.max(so_far));
            joined.extend_from_slice(&first);
            first = Bytes::new();
        }
        joined.extend_from_slice(&chunk);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// A small body in a place of its own: what is kept of it for as long as its answer streams would keep all of the buffer
/// in which it came.
fn apart(chunk: Bytes) -> Bytes {
    match chunk.len() {
        0..=SMALL => Bytes::copy_from_slice(&chunk),
        _ => chunk,
    }
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Refused> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unsupported());
    }
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(None),
        "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
        "deflate" => Ok(Some(Coding::Deflate)),
        "br" => Ok(Some(Coding::Brotli)),
        "zstd" => Ok(Some(Coding::Zstd)),
        _ => Err(unsupported()),
    }
}

/// Decodes at most `most` bytes: a body that holds more is refused before it is held.
fn decode(coding: Coding, encoded: &[u8], most: usize) -> Result<Bytes, Refused> {
    let mut plain = Vec::with_capacity(most.min(encoded.len().saturating_mul(4)));
    let limit = most as u64 + 1;
    let outcome = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(encoded)
            .take(limit)
            .read_to_end(&mut plain),
        Coding::Deflate => flate2::read::ZlibDecoder::new(encoded)
            .take(limit)
            .read_to_end(&mut plain),
        Coding::Brotli => brotli::Decompressor::new(encoded, 16 * KIB)
            .take(limit)
            .read_to_end(&mut plain),
        Coding::Zstd => {
            zstd::stream::read::Decoder::new(encoded).and_then(|decoder| decoder.take(limit).read_to_end(&mut plain))
        }
    };
    if plain.len() > most {
        return Err(Refusal::new(
            Code::BodyTooLarge,
            format!("The request body holds more than {most} bytes once decoded, which is over the limit."),
        )
        .into());
    }
    match outcome {
        Ok(_) => Ok(plain.into()),
        Err(_) => Err(Refusal::new(
            Code::InvalidRequest,
            "The request body does not decode as its content-encoding says.",
        )
        .into()),
    }
}

fn too_large(most: usize) -> Refused {
    Refusal::new(
        Code::BodyTooLarge,
        format!("The request body is over the limit of {most} bytes."),
    )
    .into()
}

fn cut() -> Refused {
    Refusal::new(Code::InvalidRequest, "The request body ended before its announced end.").into()
}

fn silent() -> Refused {
    Refusal::new(Code::InvalidRequest, "The request body stopped arriving.").into()
}

fn unsupported() -> Refused {
    Refusal::new(
        Code::UnsupportedEncoding,
        "This content-encoding is not supported; use gzip, br, zstd or none.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_decompression_bomb_is_refused_before_it_is_held() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            bomb.write_all(&[0; 1 << 16]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        assert!(decode(Coding::Gzip, &bomb, 1 << 16).is_err());
        assert_eq!(decode(Coding::Gzip, &bomb, 1 << 22).unwrap().len(), 1 << 22);
    }

    #[test]
    fn each_coding_decodes_and_garbage_does_not() {
        let text = br#"{"model":"m"}"#.repeat(50);
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(decode(Coding::Zstd, &zstd, 1 << 20).unwrap(), text);
        let mut br = Vec::new();
        brotli::CompressorWriter::new(&mut br, 4096, 5, 22)
            .write_all(&text)
            .unwrap();
        assert_eq!(decode(Coding::Brotli, &br, 1 << 20).unwrap(), text);
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            assert!(decode(coding, b"garbage, not a coded body at all", 1 << 20).is_err());
        }
    }
}
