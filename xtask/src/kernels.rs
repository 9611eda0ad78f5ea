//! The page cipher's kernels as the compiler left them, and how fast a model of a CPU says that their inner
//! loops are: all there is to know of a kernel that no CPU at hand can run.

use std::path::Path;
use std::process::Command;

use test_kit::command::{answer, run};
use test_kit::{Result, Scratch, artefacts, files};

use crate::{build, setup};

/// A kernel: its type, what a group of its eight registers holds, and the CPUs that it is modelled on
/// as LLVM names them.
struct Kernel {
    name: &'static str,
    symbol: &'static str,
    blocks: u32,
    cpus: &'static [&'static str],
}

const KERNELS: &[Kernel] = &[
    Kernel { name: "aesni", symbol: "aesni::AesNi", blocks: 8, cpus: &["znver3"] },
    Kernel { name: "vaes256", symbol: "vaes256::Vaes256", blocks: 16, cpus: &["znver3"] },
    Kernel {
        name: "vaes512",
        symbol: "vaes512::Vaes512",
        blocks: 32,
        cpus: &["icelake-server", "sapphirerapids"],
    },
];

/// The modes whose groups are registers side by side. CBC encryption has one block at a time and the
/// same instructions in every kernel.
const MODES: &[&str] = &["ctr", "cbc_decrypt", "gcm_decrypt", "gcm_encrypt"];

/// AES instructions of a group with a key of 128 bits, as InnoDB's pages have: ten for each register.
const GROUP: usize = 80;

/// How often a loop goes round in the model.
const TIMES: u32 = 200;

/// `cargo xtask bench model`.
pub(crate) fn model() -> Result<()> {
    setup::need(&[setup::BUILD, setup::MODEL].concat())?;
    build::release()?;
    println!(
        "AES-128; cycles by LLVM 16's model of the CPU, everything in the first-level cache\n"
    );
    println!("| kernel | mode | instructions | CPU | a group | a block | AES and products alone |");
    println!("|---|---|---|---|---|---|---|");
    let library = artefacts::library();
    let mut lines = Vec::new();
    for (kernel, mode) in
        KERNELS.iter().flat_map(|kernel| MODES.iter().map(move |mode| (kernel, mode)))
    {
        let body = group(&listing(&library, kernel.symbol, mode)?)
            .ok_or_else(|| format!("{} {mode}: no loop over groups", kernel.name))?;
        for cpu in kernel.cpus {
            let cycles = cycles(&body, cpu)?;
            let floor = cycles_of_products(&body, cpu)?;
            println!(
                "| {} | {mode} | {} | {cpu} | {cycles:.1} | {:.2} | {floor:.1} |",
                kernel.name,
                body.len(),
                cycles / f64::from(kernel.blocks),
            );
            lines.push(format!("ratio model/{cpu}/{}/{mode} {:.2}", kernel.name, floor / cycles));
        }
    }
    println!("\n{}", lines.join("\n"));
    Ok(())
}

/// The entry points of all kernels in `library`, each with the functions that it calls, but for those
/// of the standard library, which a message comes to once or where it panics.
pub(crate) fn entry_points(library: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let names = run("nm", ["-C".as_ref(), library.as_os_str()])?;
    let mut found = Vec::new();
    for kernel in KERNELS {
        let path = format!("{PATH}{}::", kernel.symbol);
        let mut points: Vec<&str> = names
            .lines()
            .filter_map(|line| line.split_once(&path)?.1.strip_suffix("::run"))
            .collect();
        points.sort_unstable();
        if let Some(mode) = MODES.iter().find(|mode| !points.contains(mode)) {
            return Err(format!("{}: no entry point {path}{mode}", library.display()).into());
        }
        for point in points {
            let code = listing(library, kernel.symbol, point)?;
            let direct = |text: &str| text.starts_with("call") && text.contains('<');
            let calls = code.into_iter().map(|line| line.1).filter(|text| direct(text));
            found.push((format!("{} {point}", kernel.name), calls.collect()));
        }
    }
    Ok(found)
}

/// Where the kernels are.
const PATH: &str = "keyward::cipher::x86::";

/// The addresses and instructions of an entry point.
fn listing(library: &Path, symbol: &str, point: &str) -> Result<Vec<(u64, String)>> {
    let name = format!("--disassemble={PATH}{symbol}::{point}::run");
    let options = ["-d", "-C", "-M", "intel", "--no-show-raw-insn", &name];
    let said = run("objdump", options.map(AsRef::as_ref).into_iter().chain([library.as_os_str()]))?;
    Ok(instructions(&said))
}

/// Of what objdump printed; without the addresses that it works out of operands.
fn instructions(listing: &str) -> Vec<(u64, String)> {
    let lines = listing.lines().filter_map(|line| line.split_once(":\t"));
    let numbered = lines.filter_map(|(address, text)| {
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        let text = text.split('#').next().unwrap_or_default();
        Some((address, text.trim().to_owned()))
    });
    numbered.collect()
}

/// The loop over groups: of those without a loop in them the one with a group's AES instructions.
fn group(code: &[(u64, String)]) -> Option<Vec<String>> {
    let is_group = |body: &Vec<String>| body.iter().filter(|text| is_aes(text)).count() == GROUP;
    innermost(code).into_iter().find(is_group)
}

/// The loops without a loop in them: from the target of a jump backwards to the jump.
fn innermost(code: &[(u64, String)]) -> Vec<Vec<String>> {
    let place = |address: u64| code.binary_search_by_key(&address, |line| line.0).ok();
    let ends = code.iter().enumerate().filter_map(|(end, (_, text))| {
        let target = text.strip_prefix('j')?.split_whitespace().nth(1)?;
        let start = place(u64::from_str_radix(target, 16).ok()?)?;
        (start <= end).then_some((start, end))
    });
    let all: Vec<_> = ends.collect();
    let holds = |outer: (usize, usize), inner: (usize, usize)| {
        outer != inner && outer.0 <= inner.0 && inner.1 <= outer.1
    };
    let inner = all.iter().filter(|this| !all.iter().any(|other| holds(**this, *other)));
    let bodies = inner.map(|(start, end)| &code[*start..=*end]);
    bodies.map(|body| body.iter().map(|line| line.1.clone()).collect()).collect()
}

fn is_aes(text: &str) -> bool {
    text.starts_with("aes") || text.starts_with("vaes")
}

/// Cycles that the model gives to AES and carry-less products of a loop alone.
fn cycles_of_products(body: &[String], cpu: &str) -> Result<f64> {
    let kept = body.iter().filter(|text| is_aes(text) || text.contains("pclmul"));
    cycles(&kept.cloned().collect::<Vec<_>>(), cpu)
}

/// Cycles that the model gives to a loop. It knows of no jumps.
fn cycles(body: &[String], cpu: &str) -> Result<f64> {
    let folder = Scratch::new("model")?;
    let file = folder.path().join("loop.s");
    let lines = body.iter().filter(|text| !text.starts_with('j'));
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    files::write(&file, format!(".intel_syntax noprefix\n{text}"))?;
    let mut model = Command::new("llvm-mca-16");
    model.args(["-mtriple=x86_64", &format!("-mcpu={cpu}"), &format!("-iterations={TIMES}")]);
    let said = answer(model.args(["-instruction-info=0", "-resource-pressure=0"]).arg(file))?;
    let said = said.ok().map_err(|error| error.within("llvm-mca"))?;
    let cycles = said.lines().find_map(|line| line.strip_prefix("Total Cycles:"));
    let cycles: u32 = cycles.unwrap_or_default().trim().parse()?;
    Ok(f64::from(cycles) / f64::from(TIMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_loop_in_a_loop() {
        let listing = "\n0000 <f>:\n  10:\tpush   rbx\n  11:\tmov    rax,rdi\n  \
                       14:\tvaesenc ymm0,ymm0,YMMWORD PTR [rip+0x10]        # 20 <keys>\n  \
                       18:\tcall   90 <g>\n  1c:\tdec    rax\n  1f:\tjne    14 <f+0x4>\n  \
                       21:\tdec    rbx\n  24:\tjne    11 <f+0x1>\n  26:\tret\n";
        let loops = innermost(&instructions(listing));
        assert_eq!(loops.len(), 1);
        assert_eq!(loops[0][0], "vaesenc ymm0,ymm0,YMMWORD PTR [rip+0x10]");
        assert_eq!(loops[0][1], "call   90 <g>");
        assert_eq!(loops[0].len(), 4);
    }
}
