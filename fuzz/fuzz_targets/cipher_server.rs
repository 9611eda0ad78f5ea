//! The kernel of this process does what the server's calls to OpenSSL do.
#![no_main]

use std::mem::MaybeUninit;

#[path = "../../benches/common/evp.rs"]
mod evp;
mod message;

fn by_server(message: &message::Message) -> message::Outcome {
    let ((mode, direction, padding), key) = (message.way(), message.key());
    let mut server = evp::Server::init(mode, direction, padding, &key, &message.iv)?;
    let (mut out, mut done) = (vec![MaybeUninit::new(0); 1 << 20], 0);
    for piece in &message.pieces {
        done += server.update(piece, &mut out[done..])?;
    }
    done += server.finish(&mut out[done..])?;
    Ok(out[..done].iter().map(|byte| unsafe { byte.assume_init() }).collect())
}

libfuzzer_sys::fuzz_target!(|message: message::Message| {
    assert_eq!(message.by_us(keyward::cipher::kernel()), by_server(&message));
});
