//! Files that somebody has tampered with: valid headers, changed at random for as long as `CORRAL_FUZZ_SECONDS` says.
//!
//! What comes of each is looked at, and a change that leads somewhere new is changed further. Coverage-guided fuzzers
//! need a nightly compiler; for a reader of one file this finds the same depth, since each of its ways out says where
//! it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
#![allow(clippy::print_stderr, reason = "what was done is the outcome of a long run")]

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use corral_core::fit::{Architecture, Correction, Machine, Placement, Profile, estimate, judge};
use corral_core::gguf::{GgufError, Header, Model, read};
use corral_testkit::gguf::shapes;
use corral_testkit::{TinyModel, launch_spec};
use rustix::process::{Resource, Rlimit, setrlimit};

/// How long it runs where nobody says otherwise: long enough to notice what is plainly broken.
const SECONDS: u64 = 3;
/// More than reading any header needs, and far below what an untrusted length would ask for: beyond it the process
/// ends.
const ADDRESS_SPACE: u64 = 4 << 30;
/// One file takes no longer than this, however it is made.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many files that led somewhere new are kept.
const CORPUS: usize = 2000;

/// A file whose front is given, and whose rest is a hole.
struct Sparse<'a> {
    head: &'a [u8],
    size: u64,
    position: u64,
}

impl Read for Sparse<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(self.position <= self.size, "it reads behind the end, at {} of {}", self.position, self.size);
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..left];
        buffer.fill(0);
        if let Some(rest) = usize::try_from(self.position).ok().and_then(|at| self.head.get(at..)) {
            let count = rest.len().min(left);
            buffer[..count].copy_from_slice(&rest[..count]);
        }
        self.position += left as u64;
        Ok(left)
    }
}

impl Seek for Sparse<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let at = at.filter(|at| *at <= self.size).expect("it stays within the file");
        self.position = at;
        Ok(at)
    }
}

#[derive(Clone)]
struct Part {
    head: Vec<u8>,
    size: u64,
}

/// The files of a model: one, or its parts.
#[derive(Clone)]
struct Case(Vec<Part>);

/// `SplitMix64`, as published.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a bound")
    }
}

/// The headers of real files, short ones and long ones.
fn seeds() -> Vec<Case> {
    let mut tiny = Vec::new();
    TinyModel::new(1).write_to(&mut tiny).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut seeds = vec![Case(vec![Part { size: tiny.len() as u64, head: tiny[..12_000].to_vec() }])];
    for shape in shapes().into_iter().filter(|shape| shape.name.starts_with("small")) {
        let path = folder.path().join("m.gguf");
        let size = shape.write(&path).unwrap();
        let mut head = Vec::new();
        std::fs::File::open(&path).unwrap().take(2 << 20).read_to_end(&mut head).unwrap();
        let end = head.iter().rposition(|byte| *byte != 0).unwrap() + 64;
        head.truncate(end);
        seeds.push(Case(vec![Part { head, size }]));
    }
    // Parts hold what only parts have, and have to belong together.
    for count in [2, 3] {
        let part = |index| folder.path().join(format!("p-{index:05}-of-{count:05}.gguf"));
        let parts: Vec<_> = (1..=count).map(part).collect();
        TinyModel::new(2).write_parts(&parts).unwrap();
        let read = |path| {
            let bytes = std::fs::read(path).unwrap();
            Part { size: bytes.len() as u64, head: bytes[..bytes.len().min(12_000)].to_vec() }
        };
        seeds.push(Case(parts.iter().map(read).collect()));
    }
    seeds
}

/// A change of one of the files, or of which there are.
fn changed(case: &mut Case, random: &mut Random) {
    let parts = &mut case.0;
    let at = random.below(parts.len());
    match random.below(40) {
        0 if parts.len() > 1 => drop(parts.remove(at)),
        1 if parts.len() < 4 => parts.push(parts[at].clone()),
        2 => parts.rotate_left(at),
        _ => changed_part(&mut parts[at], random),
    }
}

fn changed_part(case: &mut Part, random: &mut Random) {
    const TELLING: [u64; 16] =
        [0, 1, 2, 3, 4, 8, 9, 31, 255, 65_535, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, 1 << 63, u64::MAX];
    let length = case.head.len();
    // The front is where counts and keys are: half of the changes are there.
    let at = if random.below(2) == 0 { random.below(length.min(2000)) } else { random.below(length) };
    let value = match random.below(4) {
        0 => random.next(),
        1 => case.size.wrapping_add(random.next() % 65).wrapping_sub(32),
        _ => TELLING[random.below(TELLING.len())],
    };
    match random.below(8) {
        0 => case.head[at] ^= 1 << random.below(8),
        1 => case.head[at] = u8::try_from(value & 0xff).expect("a byte"),
        kind @ (2 | 3) => {
            let bytes = value.to_le_bytes();
            let count = if kind == 2 { 4 } else { 8 }.min(length - at);
            case.head[at..at + count].copy_from_slice(&bytes[..count]);
        }
        4 => {
            let end = (at + random.below(64)).min(length);
            case.head.drain(at..end);
        }
        5 => {
            let end = (at + random.below(200)).min(length);
            let piece = case.head[at..end].to_vec();
            let to = random.below(case.head.len());
            case.head.splice(to..to, piece);
        }
        6 => case.size = value % (1 << 40),
        _ => case.size = random.next() % (case.head.len() as u64 + 1),
    }
    if case.head.is_empty() {
        case.head.push(b'G');
    }
    case.head.truncate(4 << 20);
}

fn read_part(part: &Part) -> Result<Header, GgufError> {
    read(Sparse { head: &part.head, size: part.size, position: 0 })
}

/// Reads it as far as that goes, and says what came of it, without the figures.
fn outcome(case: &Case, profile: &Profile) -> String {
    let mut headers = Vec::new();
    for part in &case.0 {
        let header = match read_part(part) {
            Ok(header) => header,
            Err(error) => return error.to_string(),
        };
        assert!(header.summary.described_bytes.is_none_or(|described| described <= part.size));
        headers.push(header);
    }
    let joined = match Model::join(headers) {
        Ok(model) => model,
        Err((index, error)) => return format!("{index} {error}"),
    };
    let architecture = match Architecture::of(&joined) {
        Ok(architecture) => architecture,
        Err(error) => return error.to_string(),
    };
    for gpus in [Vec::new(), vec![1.0, 2.0]] {
        let placement = Placement { gpus, layers: 9 };
        assert!(estimate(&architecture, profile, &placement).host.total() >= architecture.input_bytes);
    }
    let fit = judge(&architecture, profile, &Machine::default(), &Correction::default());
    format!("judged {} {} {:?}", architecture.name, architecture.layers.len(), fit.verdict)
}

#[test]
fn tampered_files_are_refused_or_read_and_never_more() {
    let seconds = std::env::var("CORRAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let limit = Some(ADDRESS_SPACE);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let seed = std::env::var("CORRAL_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    eprintln!("CORRAL_FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let profile = Profile::of(&launch_spec("m"));
    let mut corpus = seeds();
    let mut outcomes = HashSet::new();
    for case in &corpus {
        let said = outcome(case, &profile);
        assert!(said.starts_with("judged"), "a seed is a whole model: {said}");
        outcomes.insert(without_figures(&said));
    }
    let (began, mut runs, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut case = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            changed(&mut case, &mut random);
        }
        let start = Instant::now();
        let said = outcome(&case, &profile);
        slowest = slowest.max(start.elapsed());
        assert!(start.elapsed() < PATIENCE, "{said} took {:?} (CORRAL_FUZZ_SEED={seed})", start.elapsed());
        if outcomes.insert(without_figures(&said)) && corpus.len() < CORPUS {
            corpus.push(case);
        }
        runs += 1;
    }
    eprintln!("{runs} files in {seconds} s, {} outcomes, {} kept, slowest {slowest:?}", outcomes.len(), corpus.len());
    assert!(outcomes.len() > 10, "the changes lead nowhere: {outcomes:?}");
}

/// Without names and figures, so that the corpus grows by what is new and not by what is called otherwise.
fn without_figures(said: &str) -> String {
    let mut quoted = false;
    said.chars()
        .filter(|character| {
            quoted ^= *character == '`';
            !quoted && !character.is_ascii_digit()
        })
        .take(200)
        .collect()
}
