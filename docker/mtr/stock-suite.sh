#!/bin/sh
# stock-suite.sh DRIVER VERSION: copies MySQL's suite component_keyring_file, in the driver's folder DRIVER, to
# component_keyring_file_by_keyward, with the name and VERSION of keyward's component in the results it expects.
set -eu

driver=$1
ours=$driver/suite/component_keyring_file_by_keyward
rm -rf "$ours"
cp -r "$driver/suite/component_keyring_file" "$ours"
sed -i s/component_keyring_file/component_keyring_keyward/g "$ours"/r/*.result
sed -i -e 's/^Author\t.*/Author\tThe keyward authors/' -e 's/^License\t.*/License\tMIT OR Apache-2.0/' \
    -e "s/^Version\t.*/Version\t$2/" "$ours/r/keyring_component_status.result"
# The stock component's own notes.
sed -i '/^TIMESTAMP .* Component component_keyring_keyward reported: /d' "$ours/r/keyring_encryption_test.result"

# Where a keystore is gone and its other files are not, keyward warns, and the driver takes a warning for a failure.
helpers=$driver/include/keyring_tests/helper
cat > "$helpers/keyward_left_remove.inc" << 'END'
--perl
  my $keystore = $ENV{KEYRING_FILE_PATH};
  unlink "$keystore.key", "$keystore.witness", "$ENV{MYSQLTEST_VARDIR}/audit.jsonl" unless -e $keystore;
EOF
END
remove='--source include/keyring_tests/helper/keyward_left_remove.inc'
grep -q keyward "$helpers/local_keyring_file_remove.inc" || echo "$remove" >> "$helpers/local_keyring_file_remove.inc"
sed -i "/^--let KEYRING_CONFIG_CONTENT/i $remove" "$ours"/inc/*setup*.inc
