#!/bin/sh
# keyward-mtr [--original] [SUITE...]: runs suites of the server's test driver with keyward, and compares
# each of the server's own with the results of the original plugin or component. Without a suite: keyward's own,
# and the server's for encryption. With --original it runs the original alone and prints its results.
#
# MTR_OPTIONS has more words for the driver, such as --do-test=create. It changes the server's plugins:
# run it in a container.
set -eu
export LC_ALL=C

ours=/usr/share/keyward/mariadb-test
plugins=/usr/lib/mysql/plugin
logs=/mtr

main() {
    whose=keyward
    if [ "${1-}" = --original ]; then whose=original; shift; fi
    if command -v mariadbd > /dev/null; then mariadb; else mysql; fi
    [ $# -gt 0 ] || set -- $own $default
    mkdir -p "$logs"
    rm -f "$logs/summary"
    verdict=0
    for suite in "$@"; do
        if [ "$suite" = "$own" ]; then own_suite; else servers_suite "$suite"; fi
    done
    echo
    cat "$logs/summary"
    exit $verdict
}

mariadb() { # where its driver is, and what is in whose place
    server=mariadb-$(release mariadbd)
    for driver in /usr/share/mariadb/mariadb-test /usr/share/mysql/mysql-test; do
        [ ! -d $driver/lib ] || break
    done
    own=keyward default=encryption options=
    use() {
        place=$plugins/file_key_management.so
        [ -e $place.original ] || cp -p $place $place.original
        case $1 in
            original) cp -p $place.original $place ;;
            keyward) cp -p $plugins/keyward.so $place ;;
        esac
        name=$2
    }
}

mysql() {
    server=mysql-$(release mysqld)
    driver=/usr/lib/mysql-test
    # Container engines forbid native AIO, and MySQL logs an error where it is asked for in vain. New data for each
    # test: some take away a keyring that has keys of data which an earlier one on that worker encrypted.
    own=component_keyring_keyward default=component_keyring_file
    options="--force-restart --mysqld=--innodb-use-native-aio=OFF"
    for program in $driver/bin/*; do
        [ -e "/usr/bin/$(basename "$program")" ] || ln -s "$program" /usr/bin/
    done
    echo '{ "read_local_manifest": true }' > "$(command -v mysqld).my"
    for component in file keyward; do
        echo '{ "read_local_config": true }' > $plugins/component_keyring_$component.cnf
    done
    use() { # the suite of the stock component, with the name and version of ours in what it expects
        defs=$driver/include/plugin.defs
        [ -e $defs.original ] || cp -p $defs $defs.original
        cp -p $defs.original $defs
        name=$2
        [ "$1 $2" = "keyward component_keyring_file" ] || return 0
        name=component_keyring_file_by_keyward
        keyward-stock-suite $driver "$(keyward --version | cut -d ' ' -f 2)"
        sed -i "/KEYRING_FILE_COMPONENT/s/component_keyring_file/$own/g" $defs
    }
}

release() { # of a server: 10.11
    "$1" --no-defaults --version | sed -n 's/.* Ver \([0-9]*\.[0-9]*\).*/\1/p'
}

own_suite() { # nothing may fail, and something must run
    use original "$own"
    run "$own"
    say "$suite" "$(counts "$logs/$suite.results"), $took s"
    failures=$(grep '^fail ' "$logs/$suite.results" || true)
    passes=$(grep -c '^pass ' "$logs/$suite.results" || true)
    if [ -n "$failures" ] || [ "$passes" = 0 ]; then
        say "" "${failures:-nothing ran}"
        verdict=1
    fi
}

servers_suite() { # what passes with the original must pass with keyward
    if [ $whose = original ]; then
        use original "$1"
        run "$1"
        cat "$logs/$1.results"
        say "$1" "the original: $(counts "$logs/$1.results"), $took s"
        return
    fi
    before=$ours/baseline/$server-$1.txt
    if [ ! -e "$before" ] || [ -n "${MTR_OPTIONS-}" ]; then
        use original "$1"
        run "$1"
        before=$logs/$1.original
        mv "$logs/$1.results" "$before"
    fi
    use keyward "$1"
    run "$1"
    refused=$ours/baseline/${server%-*}-$1-refused.txt
    [ -e "$refused" ] && [ -z "${MTR_OPTIONS-}" ] || refused=/dev/null
    judge "$refused" "$logs/$1.log" > "$logs/$1.judged"
    worse "$before" "$logs/$1.results" "$logs/$1.judged" > "$logs/$1.worse"
    say "$1" "$(counts "$logs/$1.results"), $took s; the original: $(counts "$before")"
    grep ': refused, ' "$logs/$1.judged" | while read -r line; do say "" "$line"; done
    if [ -s "$logs/$1.worse" ]; then
        say "" "$(cat "$logs/$1.worse")"
        verdict=1
    fi
}

run() { # run SUITE: the driver, whose lines are shown and kept, and what they say
    since=$(date +%s)
    : > "$logs/$1.log"
    (cd $driver && exec perl mtr --suite="$name" --parallel="$(nproc)" --force --max-test-fail=0 --retry=0 \
        --mysqld=--user=root $options --vardir=$logs/var ${MTR_OPTIONS-} > "$logs/$1.log" 2>&1) &
    # Not through a pipe, which a process that a test left behind holds open.
    tail --pid=$! --lines=+1 --follow "$logs/$1.log"
    wait $! || true
    took=$(($(date +%s) - since))
    grep -q 'seconds executing testcases' "$logs/$1.log" || { echo "the driver did not come to its end"; exit 1; }
    sed -e 's/^\[ *[0-9]*%\] //' -e "s/^$name\./$1./" "$logs/$1.log" | awk '
        match($0, / \[ [a-z]+ \]/) {
            end = substr($0, RSTART + 3, RLENGTH - 5)
            words = split(substr($0, 1, RSTART - 1), word, " ")
            name = word[1]
            for (i = 2; i <= words; i++) if (word[i] !~ /^w[0-9]+$/) name = name " " word[i]
            if (word[1] ~ /\./) print end, name
        }' | sort -k 2 > "$logs/$1.results"
}

counts() { # 164 passed, 0 failed, 14 skipped
    awk '{ n[$1]++ } END { printf "%d passed, %d failed, %d skipped", n["pass"], n["fail"], n["skipped"] }' "$1"
}

worse() { # worse BEFORE NOW JUDGED: the tests that passed and do not, those that newly fail, and the wrong ones
    awk '
        /^#/ { next }
        FILENAME == ARGV[3] {
            judged[substr($1, 1, length($1) - 1)]
            if (!/: refused, /) print
            next
        }
        { end = $1; name = substr($0, length($1) + 2) }
        FILENAME == ARGV[1] { before[name] = end; next }
        { now[name] = end }
        END {
            for (name in before) if (!(name in now)) now[name] = "not run"
            for (name in now) {
                was = name in before ? before[name] : "not run"
                if (name in judged) continue
                if (was == "pass" && now[name] != "pass" || now[name] == "fail" && was != "fail")
                    print name ": " now[name] ", with the original " was
            }
        }' "$1" "$2" "$3" | sort
}

judge() { # judge REFUSED LOG: a test of the list is refused if it failed with its words, else wrong
    awk '
        FILENAME == ARGV[1] {
            if (/^#/) next
            test = substr($0, 1, index($0, ": ") - 1)
            words[test] = substr($0, length(test) + 3)
            next
        }
        match($0, / \[ [a-z]+ \]/) {
            sub(/^\[ *[0-9]*%\] /, "")
            split($0, word, " ")
            now = word[1]
            sub(/^[^.]*\./, "'"$suite"'.", now)
            end[now] = $0 ~ / \[ fail \]/ ? "fail" : "no failure"
        }
        now in words && index($0, words[now]) { said[now] = 1 }
        END {
            for (test in words) {
                if (!(test in end)) end[test] = "not run"
                if (end[test] == "fail" && said[test]) print test ": refused, as is right: " words[test]
                else print test ": " end[test] ", with the original pass; must fail: " words[test]
            }
        }' "$1" "$2" | sort
}

say() { # a line of the summary
    printf '%-28s %s\n' "$1" "$2" >> "$logs/summary"
}

main "$@"
