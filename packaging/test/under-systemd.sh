#!/bin/sh
# Does in a Debian that systemd has booted, as root, what an administrator does with the Ansible role
# and the unit files, with the packages in /packages. Prints as `steps.sh` has it.
set -eu
# shellcheck source=steps.sh
. "$(dirname "$0")/steps.sh"

export VAULT_ADDR=http://127.0.0.1:8200
toml=/etc/keyward/keyward.toml

vault_server() { # in memory; the role gives its administrator's token to keyward
    echo 'disable_mlock = true' > /run/vault.hcl
    printf root > /run/vault-token
    systemd-run --unit=vault --setenv=HOME=/run /packages/vault server -dev \
        -dev-root-token-id=root -dev-no-store-token -config=/run/vault.hcl
    for _ in $(seq 100); do
        /packages/vault status && return
        sleep 0.1
    done
    exit 1
}

play() {
    ANSIBLE_ROLES_PATH=/packages/roles ansible-playbook --inventory localhost, /packages/ansible.yml
}

role() {
    play
    is "the wrapping key's type" "$(VAULT_TOKEN=root /packages/vault read -field=type transit/keys/keyward)" aes256-gcm96
    grep -q '^rotate_after = "90d"$' $toml
    is "tokens left" "$(find /run -name 'keyward.*')" ""
    systemctl is-enabled keyward-rotate.timer
}

role_again() { # the second run changes nothing
    pidof mariadbd > /run/before.pid
    play | tee /run/play
    grep -q 'changed=0 .*failed=0' /run/play
    same_server
}

table() {
    sql "CREATE DATABASE d; CREATE TABLE d.t (a TEXT) ENCRYPTED=YES; INSERT INTO d.t VALUES (REPEAT('plain', 100))"
    systemctl restart mariadb
    row
    sql "FLUSH TABLES d.t FOR EXPORT" && grep -c plainplain /var/lib/mysql/d/t.ibd && exit 1
    works
}

row() {
    is "the row" "$(sql "SELECT a = REPEAT('plain', 100) FROM d.t")" 1
}

upgrade() { # dpkg's triggers of mariadb-server reload systemd, and leave the server alone
    pidof mariadbd > /run/before.pid
    install --reinstall /packages/keyward_*.deb
    same_server
    works | grep 'the file of its library was replaced'
    systemctl restart mariadb
    works | grep 'the file of its library was replaced' && exit 1
    row
}

timer() { # the unit of the timer, on a keystore in which nothing is due
    systemctl start keyward-rotate.service
    is "its result" "$(systemctl show --property=Result --value keyward-rotate.service)" success
    systemctl list-timers keyward-rotate.timer | grep keyward-rotate.service
}

made() { # how many backups there are
    find /var/backups/keyward -name '*.age' | wc -l
}

backups() { # the unit that watches the keystore, once there is a recipient
    keyward keystore backup --identity /root/recovery.txt 2> /run/identity
    keyward keystore backup --add-recipient "$(grep -o 'age1pq1[a-z0-9]*' /run/identity)"
    install -d -o mysql -m 0700 /var/backups/keyward
    printf '\n[backup]\nto = "/var/backups/keyward"\n' >> $toml
    systemctl start keyward-backup.service
    is "its result" "$(systemctl show --property=Result --value keyward-backup.service)" success
    is "backups" "$(made)" 1
    systemctl start keyward-backup.path
    keyward rotate 1
    for _ in $(seq 90); do
        [ "$(made)" = 2 ] && break
        sleep 1
    done
    is "backups after a change" "$(made)" 2
    keyward keystore backup --due | grep 'nothing is due'
}

metrics() { # the other timer's unit, once the collector has its folder
    mkdir -p /var/lib/prometheus/node-exporter
    systemctl start keyward-metrics.service
    is "its result" "$(systemctl show --property=Result --value keyward-metrics.service)" success
    grep '^keyward_server_up{.*} 1$' /var/lib/prometheus/node-exporter/keyward.prom
}

credential() { # a passphrase that the unit alone can read, as the drop-in says; then it alone opens
    systemd-creds setup
    mkdir -p /etc/credstore.encrypted /etc/systemd/system/mariadb.service.d
    printf 'correct horse battery staple' |
        systemd-creds encrypt --name=keyward - /etc/credstore.encrypted/keyward
    cp /usr/share/doc/keyward/examples/keyward-credential.conf /etc/systemd/system/mariadb.service.d/keyward.conf
    printf '\n[[provider]]\nname = "sealed"\ntype = "local"\npassphrase_credential = "keyward"\n' >> $toml
    systemd-run --wait --pipe --property=User=mysql \
        --property=LoadCredentialEncrypted=keyward:/etc/credstore.encrypted/keyward \
        keyward keystore rewrap --add sealed
    systemctl daemon-reload
    systemctl stop vault
    systemctl restart mariadb
    row
    is "the provider" "$(sql "SHOW STATUS LIKE 'Keyward_provider'" | cut -f2)" sealed
    grep -r 'correct horse' /etc /var/lib/keyward /var/log && exit 1
    systemctl stop mariadb
    mv /etc/credstore.encrypted/keyward /root/
    systemctl start mariadb && exit 1
    mv /root/keyward /etc/credstore.encrypted/
    systemctl reset-failed mariadb
    systemctl start mariadb
    row
}

run_steps "vault_server role role_again table upgrade timer backups metrics credential" "$@"
