//! The page cipher against what the server does itself, in the shapes in which the server calls it.
//!
//! `cargo bench --bench page_cipher [part of a cell's name ...]`. Each cell runs the server's own EVP
//! sequence, a tougher one with everything prefetched, every kernel that this CPU has, and the
//! kernels' floors. `KEYWARD_BENCH_SECONDS` shortens a cell, `KEYWARD_CIPHER` forces the kernel that
//! the `ratio` lines are about.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/mod.rs"]
mod common;

use std::cell::Cell;
use std::hint::black_box;
use std::mem::MaybeUninit;

use common::evp::{self, Prefetched, Server};
use common::random::Random;
use common::{Candidate, Outcome, floor, paired};
use keyward::cipher::{Context, Direction, Kernel, Mode, Padding, kernel};

/// Where a full_crc32 page's payload begins, and how much of the page it is not.
const PAGE_OFFSET: usize = 26;
const PAGE_REST: usize = 30;

/// Frames of output in rotation, at most.
const SLOTS: usize = 64;

/// One line of the table.
struct Shape {
    name: String,
    mode: Mode,
    direction: Direction,
    key_len: usize,
    /// Lengths of the updates.
    pieces: Vec<usize>,
    /// Bytes from one message's frame to the next, and how many there are in rotation.
    frame: usize,
    frames: usize,
}

impl Shape {
    fn page(name: &str, mode: Mode, direction: Direction, key_len: usize, size: usize) -> Self {
        let cell = format!("{name}/{size}/hot");
        let pieces = vec![size - PAGE_REST];
        Self { name: cell, mode, direction, key_len, pieces, frame: size, frames: 16 }
    }

    /// From 8192 frames all over the buffer pool; to one of a few, as the server's I/O slots are.
    fn cold(mut self) -> Self {
        self.name = self.name.replace("/hot", "/cold");
        self.frames = 8192;
        self
    }

    fn record(name: &str, mode: Mode, key_len: usize, pieces: &[usize]) -> Self {
        let pieces = pieces.to_vec();
        let (name, direction) = (name.to_owned(), Direction::Encrypt);
        Self { name, mode, direction, key_len, pieces, frame: 512, frames: 16 }
    }

    fn padding(&self) -> Padding {
        if self.mode == Mode::Gcm { Padding::Pkcs7 } else { Padding::None }
    }

    fn len(&self) -> usize {
        self.pieces.iter().sum()
    }
}

/// The cells of the table.
fn shapes() -> Vec<Shape> {
    use Direction::{Decrypt, Encrypt};
    let mut shapes = Vec::new();
    let kinds = [
        ("ctr128", Mode::Ctr, Encrypt, 16),
        ("cbc128-dec", Mode::Cbc, Decrypt, 16),
        ("cbc128-enc", Mode::Cbc, Encrypt, 16),
        ("gcm128-dec", Mode::Gcm, Decrypt, 16),
        ("gcm128-enc", Mode::Gcm, Encrypt, 16),
        ("gcm256-dec", Mode::Gcm, Decrypt, 32),
    ];
    for (name, mode, direction, key_len) in kinds {
        for size in [4096, 8192, 16_384, 65_536] {
            shapes.push(Shape::page(name, mode, direction, key_len, size));
        }
        shapes.push(Shape::page(name, mode, direction, key_len, 16_384).cold());
    }
    let redo = [5, 20, 32];
    let event = [15, 300, 4];
    shapes.push(Shape::record("record/ctr128/64", Mode::Ctr, 16, &[64]));
    shapes.push(Shape::record("record/cbc128/64", Mode::Cbc, 16, &[64]));
    shapes.push(Shape::record("redo/ctr128/57", Mode::Ctr, 16, &redo));
    shapes.push(Shape::record("redo/cbc128/57", Mode::Cbc, 16, &redo));
    shapes.push(Shape::record("binlog/ctr256/319", Mode::Ctr, 32, &event));
    shapes.push(Shape::record("binlog/cbc256/319", Mode::Cbc, 32, &event));
    shapes
}

/// Frames of input and of output, and a key.
struct Bed {
    shape: Shape,
    key: Vec<u8>,
    iv: [u8; 16],
    input: Vec<u8>,
    next: Cell<usize>,
}

impl Bed {
    fn new(shape: Shape) -> Self {
        let mut random = Random::new(7);
        let mut key = vec![0; shape.key_len];
        random.fill(&mut key);
        let mut iv = [0; 16];
        random.fill(&mut iv[..12]);
        let mut bed = Self { input: Vec::new(), key, iv, next: Cell::new(0), shape };
        let mut input = vec![0; bed.shape.frame * bed.shape.frames + 4096];
        random.fill(&mut input);
        if bed.shape.mode == Mode::Gcm && bed.shape.direction == Direction::Decrypt {
            bed.seal(&mut input);
        }
        bed.input = input;
        bed
    }

    /// Makes every frame's input one that decrypts.
    fn seal(&self, input: &mut [u8]) {
        let len = self.shape.len();
        let text = input[..len - 16].to_vec();
        let mut sealed = vec![MaybeUninit::new(0); len + 16];
        let args = (self.shape.mode, Direction::Encrypt, self.shape.padding());
        let mut server = Server::init(args.0, args.1, args.2, &self.key, &self.iv).expect("init");
        let done = server.update(&text, &mut sealed).expect("update");
        server.finish(&mut sealed[done..]).expect("finish");
        for frame in 0..self.shape.frames {
            let to = &mut input[self.start(frame)..][..len];
            for (to, byte) in to.iter_mut().zip(&sealed) {
                *to = bytes(std::slice::from_ref(byte))[0];
            }
        }
    }

    fn start(&self, frame: usize) -> usize {
        frame * self.shape.frame + PAGE_OFFSET
    }

    /// The next frame's input and where its output goes.
    fn turn(&self) -> (&[u8], usize) {
        let frame = self.next.get();
        self.next.set(if frame + 1 == self.shape.frames { 0 } else { frame + 1 });
        let at = self.start(frame);
        (&self.input[at..at + self.shape.len()], self.start(frame % SLOTS))
    }
}

/// Room for output; every byte is set, so that all of it may be read.
fn room(bed: &Bed) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::new(0); bed.shape.frame * bed.shape.frames.min(SLOTS) + 4096]
}

#[allow(unsafe_code)]
fn bytes(room: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: `room` above set every byte.
    unsafe { &*(std::ptr::from_ref(room) as *const [u8]) }
}

fn by_server(bed: &Bed, src: &[u8], out: &mut [MaybeUninit<u8>]) -> usize {
    let Shape { mode, direction, .. } = bed.shape;
    let padding = bed.shape.padding();
    let mut server = Server::init(mode, direction, padding, &bed.key, &bed.iv).expect("init");
    let (mut from, mut to) = (0, 0);
    for len in &bed.shape.pieces {
        to += server.update(&src[from..from + len], &mut out[to..]).expect("update");
        from += len;
    }
    to + server.finish(&mut out[to..]).expect("finish")
}

fn by_us(kernel: Kernel, bed: &Bed, src: &[u8], out: &mut [MaybeUninit<u8>]) -> usize {
    let Shape { mode, direction, .. } = bed.shape;
    let padding = bed.shape.padding();
    let mut slot = MaybeUninit::uninit();
    let context =
        Context::init_with(kernel, &mut slot, mode, direction, padding, &bed.key, &bed.iv)
            .expect("init");
    let (mut from, mut to) = (0, 0);
    for len in &bed.shape.pieces {
        to += context.update(&src[from..from + len], &mut out[to..]).expect("update");
        from += len;
    }
    let tail = context.finish().expect("finish");
    for byte in tail.iter() {
        out[to].write(*byte);
        to += 1;
    }
    to
}

/// Everybody's output for one frame, compared.
fn check(bed: &Bed, kernels: &[Kernel]) {
    let src = &bed.input[bed.start(0)..][..bed.shape.len()];
    let (mut theirs, mut ours) = (room(bed), room(bed));
    let len = by_server(bed, src, &mut theirs);
    for kernel in kernels {
        assert_eq!(by_us(*kernel, bed, src, &mut ours), len);
        assert!(bytes(&ours)[..len] == bytes(&theirs)[..len], "{} on {kernel}", bed.shape.name);
    }
    if bed.shape.pieces.len() == 1 {
        let mut prefetched = Prefetched::new(bed.shape.mode, bed.shape.direction, bed.key.len());
        assert_eq!(prefetched.crypt(&bed.key, &bed.iv, src, &mut ours), len);
        assert!(bytes(&ours)[..len] == bytes(&theirs)[..len], "{} prefetched", bed.shape.name);
    }
}

fn measure(bed: &Bed, kernels: &[Kernel]) -> Vec<Outcome> {
    check(bed, kernels);
    let mut candidates = Vec::new();
    let mut out = room(bed);
    candidates.push(Candidate::new("server", move || {
        let (src, at) = bed.turn();
        black_box(by_server(bed, black_box(src), &mut out[at..]));
    }));
    if bed.shape.pieces.len() == 1 {
        let mut out = room(bed);
        let mut prefetched = Prefetched::new(bed.shape.mode, bed.shape.direction, bed.key.len());
        candidates.push(Candidate::new("prefetched", move || {
            let (src, at) = bed.turn();
            black_box(prefetched.crypt(&bed.key, &bed.iv, black_box(src), &mut out[at..]));
        }));
    }
    let rounds = bed.key.len() / 4 + 6;
    let blocks = bed.shape.len() / 16;
    for kernel in kernels.iter().copied() {
        let mut out = room(bed);
        candidates.push(Candidate::new(kernel.name(), move || {
            let (src, at) = bed.turn();
            black_box(by_us(kernel, bed, black_box(src), &mut out[at..]));
        }));
        let Shape { mode, direction, .. } = bed.shape;
        if let Some(chain) = floor::chain(kernel.name(), mode, direction, rounds, blocks) {
            candidates.push(Candidate::new(format!("{kernel} floor"), chain));
        }
    }
    paired(candidates)
}

fn report(name: &str, outcomes: &[Outcome], kernels: &[Kernel], ratios: &mut Vec<String>) {
    let find = |name: &str| outcomes.iter().find(|outcome| outcome.name == name);
    let Some(server) = find("server") else { return };
    print!("| {name} | {:.0} |", server.ns);
    match find("prefetched") {
        Some(prefetched) => print!(" {:.0} |", prefetched.ns),
        None => print!(" |"),
    }
    for kernel in kernels {
        let Some(ours) = find(kernel.name()) else { continue };
        let (ratio, least, most) = ours.times_faster_than(server);
        print!(" {:.0} = {ratio:.2}x ({least:.2}-{most:.2})", ours.ns);
        let chosen = kernel.name() == keyward::cipher::kernel().name();
        let prefix = if chosen { "page_cipher".into() } else { format!("page_cipher-{kernel}") };
        ratios.push(format!("ratio {prefix}/{name} {ratio:.3}"));
        if let Some(prefetched) = find("prefetched") {
            let (ratio, ..) = ours.times_faster_than(prefetched);
            print!(", {ratio:.2}x");
            ratios.push(format!("ratio {prefix}/{name}/prefetched {ratio:.3}"));
        }
        if let Some(floor) = find(&format!("{kernel} floor")) {
            let (ratio, ..) = ours.times_faster_than(floor);
            print!(", {:.0}%", ratio * 100.0);
            ratios.push(format!("ratio {prefix}/{name}/floor {ratio:.3}"));
        }
        print!(" |");
    }
    println!();
}

/// Whether a call costs more while another thread makes the same ones. Two virtual CPUs may be one
/// core: what the floor's instructions alone lose is the machine's doing, not the kernel's.
fn two_threads(kernel: Kernel, ratios: &mut Vec<String>) {
    let name = "ctr128/16384/two-threads";
    if !common::wanted(name) {
        return;
    }
    let shape = || Shape::page("ctr128", Mode::Ctr, Direction::Encrypt, 16, 16_384);
    let pages = || {
        let bed = Bed::new(shape());
        let mut out = room(&bed);
        lap(|| {
            let (src, at) = bed.turn();
            black_box(by_us(kernel, &bed, black_box(src), &mut out[at..]));
        })
    };
    ratios.push(together(name, "a page", pages));
    let blocks = shape().len().div_ceil(16);
    if floor::chain(kernel.name(), Mode::Ctr, Direction::Encrypt, 10, blocks).is_some() {
        let chains = || {
            floor::chain(kernel.name(), Mode::Ctr, Direction::Encrypt, 10, blocks).map_or(0.0, lap)
        };
        ratios.push(together(&format!("{name}/floor-alone"), "the floor of a page", chains));
    }
}

/// Nanoseconds a turn.
fn lap(mut turn: impl FnMut()) -> f64 {
    let mut turns = |count: u32| {
        let start = std::time::Instant::now();
        (0..count).for_each(|_| turn());
        start.elapsed().as_nanos() as f64 / f64::from(count)
    };
    turns(100);
    common::median((0..20).map(|_| turns(1000)).collect())
}

/// `lap` on one thread and on two at once, in turn; the line that says how they compare.
fn together(name: &str, what: &str, lap: impl Fn() -> f64 + Sync) -> String {
    let mut alone = Vec::new();
    let mut together = Vec::new();
    for _ in 0..5 {
        alone.push(lap());
        let both = std::thread::scope(|threads| {
            let other = threads.spawn(&lap);
            let own = lap();
            own.max(other.join().expect("the other thread ran"))
        });
        together.push(both);
    }
    let ratio = common::median(alone.iter().zip(&together).map(|(a, b)| a / b).collect());
    let (alone, together) = (common::median(alone), common::median(together));
    println!("\n{what}: one thread {alone:.0} ns, each of two threads {together:.0} ns");
    format!("ratio page_cipher/{name} {ratio:.3}")
}

fn main() {
    let kernels: Vec<Kernel> =
        Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)).collect();
    println!("CPU: {}", common::cpu());
    println!("kernel: {}; OpenSSL: {}", kernel(), evp::version());
    for name in Kernel::NAMES {
        if Kernel::named(name).is_none() {
            println!("kernel {name}: NOT RUN, this CPU has not the instructions");
        }
    }
    println!(
        "\nns a message; times faster than the server's sequence (range over passes), than the"
    );
    println!("prefetched one, and per cent of the floor's speed\n");
    let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name()).collect();
    println!("| cell | server | prefetched | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    let mut ratios = Vec::new();
    for shape in shapes() {
        if common::wanted(&shape.name) {
            let bed = Bed::new(shape);
            let outcomes = measure(&bed, &kernels);
            report(&bed.shape.name, &outcomes, &kernels, &mut ratios);
        }
    }
    two_threads(kernel(), &mut ratios);
    println!();
    for line in ratios {
        println!("{line}");
    }
}
