//! Generations as the data of a Secret: `<number>.ca.crt`, `<number>.tls.crt`, `<number>.tls.key`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use k8s_openapi_kube::ByteString;

use super::generation::Generation;

const CA: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A Secret's data.
pub type Data = BTreeMap<String, ByteString>;

/// What a Secret has for `name`: the generations that are good, the oldest first.
///
/// One that is broken, expired or for another name is not returned, and is said in `problems`
/// unless it has only expired; its key will go with the next write.
pub fn read(data: &Data, name: &str, now: SystemTime) -> Read {
    let mut read = Read::default();
    let numbers: BTreeSet<u64> = data
        .keys()
        .filter_map(|key| key.split_once('.'))
        .filter_map(|(number, _)| number.parse().ok())
        .collect();
    for number in numbers {
        read.newest_number = number;
        let text = |part: &str| {
            let ByteString(bytes) = data.get(&format!("{number}.{part}"))?;
            String::from_utf8(bytes.clone()).ok()
        };
        let (Some(ca), Some(certificate), Some(key)) = (text(CA), text(CERTIFICATE), text(KEY))
        else {
            read.problems.push(format!("generation {number} is incomplete"));
            continue;
        };
        match Generation::read(number, ca, certificate, key, name, now) {
            Ok(generation) if generation.valid.has_ended(now) => {}
            Ok(generation) => read.generations.push(generation),
            Err(error) => read.problems.push(format!("generation {number}: {error}")),
        }
    }
    read
}

/// What stands in a Secret.
#[derive(Debug, Default)]
pub struct Read {
    pub generations: Vec<Generation>,
    pub problems: Vec<String>,
    /// The highest number, of good ones and others; 0 if there is none.
    pub newest_number: u64,
}

/// The data of a Secret with these generations and nothing else.
pub fn write(generations: &[Generation]) -> Data {
    let parts = |generation: &Generation| {
        [
            (CA, generation.ca_pem.clone()),
            (CERTIFICATE, generation.certificate_pem.clone()),
            (KEY, generation.key_pem.clone()),
        ]
        .map(|(part, pem)| (format!("{}.{part}", generation.number), ByteString(pem.into_bytes())))
    };
    generations.iter().flat_map(parts).collect()
}
