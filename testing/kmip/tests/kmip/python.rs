//! PyKMIP's own client, which makes and reads what keyward does not make.

use std::process::Command;

use test_kit::Result;
use test_kit::command::answer;

use test_kmip::Kmip;

const HEAD: &str = "
import sys
from kmip import enums
from kmip.pie.client import ProxyKmipClient
from kmip.pie.objects import SymmetricKey
port, folder = int(sys.argv[1]), sys.argv[2] + '/'
usage = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
client = ProxyKmipClient(hostname='127.0.0.1', port=port, cert=folder + 'client.pem',
    key=folder + 'client.key', ca=folder + 'ca.pem', ssl_version='PROTOCOL_TLSv1_2', config='none')
client.open()
";

/// Runs `script` with a `client` that is connected; what it printed.
pub(crate) fn run(kmip: &Kmip, script: &str) -> Result<String> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(format!("{HEAD}{script}")).arg(kmip.port().to_string());
    command.arg(kmip.path(""));
    answer(&mut command)?.ok().map(|said| said.trim().to_owned())
}
