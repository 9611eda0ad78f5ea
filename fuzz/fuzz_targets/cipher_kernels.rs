//! Every kernel of this CPU does the same.
#![no_main]

use keyward::cipher::Kernel;

mod message;

libfuzzer_sys::fuzz_target!(|message: message::Message| {
    let soft = Kernel::named("soft").map(|kernel| message.by_us(kernel));
    for kernel in Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)) {
        assert_eq!(Some(message.by_us(kernel)), soft, "{kernel}");
    }
});
