# shellcheck shell=sh
# What the scripts here have in common. A script defines a function for each step, then calls
# `run_steps "STEP..." "$@"`. No step follows a failed one.

install() { # without a question, and with the lists that `begin` fetched
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

sql() {
    mariadb --batch --skip-column-names --execute "$1"
}

is() { # is WHAT FOUND WANTED
    [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }
}

same_server() { # the process that ran before the step still serves
    is "the server's process" "$(pidof mariadbd)" "$(cat /run/before.pid)"
    is "an answer" "$(sql 'SELECT 1')" 1
}

run_steps() { # run_steps "STEP..." [STEP]
    steps=$1
    shift
    if [ $# = 1 ]; then
        "$1"
        return
    fi
    # A process a step: in a function that is asked whether it failed, `set -e` has no effect.
    for step in $steps; do
        since=$(date +%s%N)
        if sh -x "$0" "$step" > /run/said 2>&1; then verdict=ok; else verdict=FAILED; fi
        took=$((($(date +%s%N) - since) / 1000000))
        echo "step $step $verdict $took ms"
        [ $verdict = ok ] || { cat /run/said; exit 1; }
    done
    echo "all steps passed"
}

works() { # nothing that doctor finds fails; what a fresh Debian leaves in the clear and on one disk it warns of
    keyward doctor || [ $? = 3 ]
}
