//! A PC of the Ice Lake generation, emulated instruction by instruction by Bochs: it has AVX-512, VAES and
//! VPCLMULQDQ, which few machines have. It is booted with Debian's kernel and a folder of ours as all its
//! files, and runs some 40 million instructions a second.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_kit::command::answer;
use test_kit::{Result, Scratch, files};

use crate::roots::cache;
use crate::{job, setup};

/// Depends on the newest kernel for virtual machines, which has few drivers and boots in a minute.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What the kernel is not to use. Bochs 2.7 tells the sizes of PKU's state and of all states packed in
/// ways that contradict each other, and Linux then does without AVX. It also has FSRM without ERMS, with
/// which the memmove of Linux 6.1 overruns its buffers.
const DEFECTIVE: &str = "pku,xsaves,xsavec,fsrm";

/// The last line of a run that came to its end.
const END: &str = "keyward: end of the run";

/// The processor and what a PC must have around it. The guest's output goes to `serial`; the display
/// wants the name of a terminal, and no terminal.
const PC: &str = "\
config_interface: textconfig
display_library: term
cpu: model=corei7_icelake_u, count=1, ips=50000000
memory: guest=512, host=512
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=cdrom, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial
clock: sync=none, time0=1700000000
sound: driver=dummy
log: messages
panic: action=fatal
error: action=ignore
info: action=ignore
";

/// Boots the PC with the files of `tree`, to which it adds some, runs `script` on it (busybox's shell)
/// and returns what was printed, which goes to the file `serial` meanwhile. An error with all of that
/// where the script did not come to its end within `limit`.
pub(crate) fn run(tree: &Path, script: &str, serial: &Path, limit: Duration) -> Result<String> {
    let scratch = Scratch::new("bochs")?;
    let folder = scratch.path();
    image(tree, script, folder)?;
    files::write(&folder.join("configuration"), PC)?;
    // Debian's Bochs has its debugger in it, which waits for a command before the first instruction.
    files::write(&folder.join("commands"), "continue\n")?;
    files::write(serial, "")?;
    symlink(serial, folder.join("serial"))?;
    let mut bochs = Command::new("bochs-bin");
    bochs.args(["-q", "-f", "configuration", "-rc", "commands"]).current_dir(folder);
    bochs.env("TERM", "vt100");
    let ended = job::logged(&mut bochs, &folder.join("console"), limit);
    let said = files::text(serial)?.replace('\r', "");
    // The exit code tells nothing: a PC that switches itself off is a failure to Bochs.
    if said.contains(END) {
        return Ok(said);
    }
    let why = ended.map_or_else(|error| error.to_string(), |done| done.text);
    Err(format!("the emulated PC did not come to the end\n{said}\n{why}").into())
}

/// Makes the CD that the PC starts from.
fn image(tree: &Path, script: &str, folder: &Path) -> Result<()> {
    let disc = folder.join("disc");
    fs::create_dir(&disc)?;
    complete(tree, script)?;
    let pack = "find . | cpio --create --format=newc --quiet > \"$1\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", pack, "pack"]).arg(disc.join("initrd")).current_dir(tree);
    answer(&mut shell)?.ok()?;
    let loader = "/usr/lib/ISOLINUX/isolinux.bin";
    let module = "/usr/lib/syslinux/modules/bios/ldlinux.c32";
    fs::copy(kernel()?, disc.join("vmlinuz"))?;
    fs::copy(loader, disc.join("isolinux.bin"))?;
    fs::copy(module, disc.join("ldlinux.c32"))?;
    let menu = format!(
        "DEFAULT linux\nLABEL linux\nKERNEL /vmlinuz\nINITRD /initrd\n\
         APPEND console=ttyS0 quiet mitigations=off nokaslr clearcpuid={DEFECTIVE}\n"
    );
    files::write(&disc.join("isolinux.cfg"), menu)?;
    let boot = "-b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table";
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet"]).args(boot.split(' '));
    answer(xorriso.arg("-o").arg(folder.join("cdrom")).arg(&disc))?.ok()?;
    Ok(fs::remove_dir_all(&disc)?)
}

/// Adds a shell to `tree` and the first process, which runs `script`. It leaves the serial line time to
/// send what was written: switching off waits for nothing.
fn complete(tree: &Path, script: &str) -> Result<()> {
    for name in ["bin", "dev", "proc", "tmp"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox"))?;
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t devtmpfs dev /dev\nexec > /dev/ttyS0 2>&1\n\
         {script}\necho '{END}'\n/bin/busybox sleep 1\n/bin/busybox poweroff -f\n"
    );
    files::write(&tree.join("init"), init)?;
    files::chmod(&tree.join("init"), 0o755)
}

/// The kernel, fetched once into the cache and not installed.
fn kernel() -> Result<PathBuf> {
    let folder = cache()?.join(KERNEL);
    let kernel = folder.join("vmlinuz");
    if kernel.exists() {
        return Ok(kernel);
    }
    fs::create_dir_all(&folder)?;
    let mut query = Command::new("apt-cache");
    query.args(["depends", "--important", KERNEL]).env("LC_ALL", "C");
    let about = answer(&mut query)?.ok()?;
    let name = about.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let name = name.ok_or_else(|| format!("{KERNEL} depends on no kernel\n{about}"))?;
    let unpacked = setup::unpacked(&format!("linux-image-{name}"))?;
    let found = unpacked.path().join(format!("boot/vmlinuz-{name}"));
    // Under its own name only once it is whole.
    let part = folder.join("part");
    fs::copy(found, &part)?;
    fs::rename(&part, &kernel)?;
    Ok(kernel)
}
