#!/usr/bin/env bash
# Everything that must hold before a change is merged: bash tests/run.sh [arguments of pytest]
#
# Needs Python 3.11 or newer, and on a fresh Debian machine root, to install the system packages listed below.
# Python packages go into the current virtual (or conda) environment; without one, into an environment of their own under
# the user's cache folder, so that the system's Python is never touched (PEP 668).
# All stages run even if one fails; the exit code is 0 only if none failed.
# Under CI=true nothing but tests of a GPU is skipped: what is missing is a failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# System packages, in one place. For the tests marked `browser`: Chromium with a font, and what Playwright's driver loads.
# For those marked `napari`: a display in memory, OpenGL on the processor, and what Qt loads.
APT_PACKAGES=(
    chromium fonts-dejavu-core libatomic1
    xvfb libegl1 libgl1 libgl1-mesa-dri libopengl0 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
    libxcb-image0 libxcb-keysyms1 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0
)
TORCH="torch==2.13.0"
# Threads that wait asleep: waiting ones that spin make every other process on the machine slow.
export OMP_WAIT_POLICY=PASSIVE

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
names=() results=() seconds=() failed=0

stage() { # stage NAME COMMAND...: run it, keep its time and whether it failed
    local name=$1 began=$SECONDS code=0
    shift
    printf '\n=== %s\n' "$name"
    "$@" || code=$?
    names+=("$name")
    seconds+=($((SECONDS - began)))
    if [ "$code" -eq 0 ]; then results+=(ok); else results+=(FAILED) failed=1; fi
    return "$code"
}

report() { # a table of the stages, and pytest's own closing lines
    printf '\n%-18s %-7s %7s\n' stage result seconds
    local i
    for i in "${!names[@]}"; do printf '%-18s %-7s %7d\n' "${names[$i]}" "${results[$i]}" "${seconds[$i]}"; done
    printf '%-18s %-7s %7d\n\n' total "$([ "$failed" -eq 0 ] && echo ok || echo FAILED)" "$SECONDS"
    [ -s "$log/notebooks" ] && echo "notebooks: $(tail -n 1 "$log/notebooks")"
    [ -s "$log/pytest" ] && tail -n 1 "$log/pytest"
    [ -s "$log/drawn" ] && tail -n 1 "$log/drawn"
    exit "$failed"
}

missing_packages() { # those of the given Debian packages that are not installed
    local package
    for package in "$@"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed' || echo "$package"
    done
}

apt_install() {
    [ "$#" -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "These system packages are missing and need root to install: $*"
        echo "  sudo apt-get install --no-install-recommends $*"
        [[ "${CI:-}" =~ ^(1|true|yes)$ ]] && return 1
        echo "Tests that need them are skipped, with the reason."
        return 0
    fi
    echo "installing $*"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } \
        >"$log/apt" 2>&1 || { tail -n 20 "$log/apt"; return 1; }
}

system_packages() {
    local wanted
    mapfile -t wanted < <(missing_packages "${APT_PACKAGES[@]}")
    apt_install "${wanted[@]}"
}

find_python() { # the first Python that is new enough
    local candidate
    for candidate in "${PYTHON:-}" python python3 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && {
            command -v "$candidate"
            return 0
        }
    done
    return 1
}

python_environment() { # sets `python` to the interpreter of an environment that holds the project and its test extra
    local base venv stamp
    base=$(find_python) || { echo "Got no Python 3.11 or newer. Do 'apt-get install python3 python3-venv'."; return 1; }
    if "$base" -c 'import os, sys; sys.exit(sys.prefix == sys.base_prefix and sys.prefix != os.environ.get("CONDA_PREFIX"))'; then
        python=$base
    else
        venv=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tomodrgn/test-env-$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        python=$venv/bin/python
        if ! "$python" -m pip --version >/dev/null 2>&1; then
            "$base" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return 1
            "$base" -m venv --clear "$venv" || return 1
        fi
    fi
    PATH=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH
    export PATH
    "$python" -c 'import platform, sys; print("Python", platform.python_version(), "in", sys.prefix)'
    # Installed already, from this folder, with these requirements?
    stamp=$("$python" -c 'import sys; print(sys.prefix)')/.tomodrgn-$({ pwd; cat pyproject.toml; } | sha256sum | cut -c 1-16)
    if [ -e "$stamp" ] && (cd / && "$python" -c 'import tomodrgn, torch' 2>/dev/null); then
        echo "packages are in place"
        return 0
    fi
    # torch by itself first: pip then takes a CPU build if one is at hand (its links or indices), and keeps a torch that is there.
    "$python" -m pip show -qq torch 2>/dev/null || "$python" -m pip install -q "$TORCH" || return 1
    rm -f "${stamp%-*}"-* # of other folders
    "$python" -m pip install -q -e ".[test]" || return 1
    touch "$stamp"
}

wheel_is_complete() { # every file of the package and every notebook is in the wheel, and nothing else
    "$python" -m pip wheel -q --no-deps --wheel-dir "$log/wheel" . || return 1
    diff <("$python" -m zipfile -l "$log"/wheel/*.whl | awk '$1 ~ /^tomodrgn\// {print $1}' | sort) \
        <({ find tomodrgn -type f -not -name '*.py[co]'; printf 'tomodrgn/%s\n' notebooks/*.ipynb notebooks/*.md; } | sort) &&
        echo "the wheel holds the whole package"
}

shopt -s nullglob
notebooks=(notebooks/*.ipynb)

notebooks_are_stripped() {
    [ "${#notebooks[@]}" -eq 0 ] && echo "no notebooks" && return 0
    "$python" -m nbstripout --verify "${notebooks[@]}" && echo "${#notebooks[@]} notebooks without outputs"
}

notebooks_run() { # in a copy, as `tomodrgn lab` makes it; with --overwrite outputs are kept, to be looked at for warnings
    [ "${#notebooks[@]}" -eq 0 ] && echo "no notebooks" && return 0
    mkdir "$log/copy" && cp notebooks/*.ipynb notebooks/*.md "$log/copy" || return 1
    "$python" tests/solution_cells.py "$log"/copy/*.ipynb || return 1
    (cd "$log/copy" && "$python" -m pytest --nbmake --overwrite --nbmake-timeout=600 --durations=0 -c "$OLDPWD/pyproject.toml" \
        --rootdir . ./*.ipynb) 2>&1 | tee "$log/notebooks" || return 1
    "$python" tests/quiet_notebooks.py "$log"/copy/*.ipynb
}

tests() { # given no arguments, two at once: pages and windows are drawn on a processor, and keep one busy by themselves
    local all=("$python" -m pytest --continue-on-collection-errors --durations=10) drawn code=0
    if [ "$#" -gt 0 ] || [ "$(nproc)" -lt 2 ]; then
        "${all[@]}" "$@" 2>&1 | tee "$log/pytest"
        return
    fi
    export OMP_NUM_THREADS=1
    "${all[@]}" -m "browser or napari" >"$log/drawn" 2>&1 &
    drawn=$!
    "${all[@]}" -m "not browser and not napari" 2>&1 | tee "$log/pytest" || code=1
    wait "$drawn" || code=1
    cat "$log/drawn"
    return "$code"
}

stage "system packages" system_packages
stage "python packages" python_environment || report
stage "ruff check" "$python" -m ruff check .
stage "ruff format" "$python" -m ruff format --check .
stage "mypy" "$python" -m mypy
stage "import floors" lint-imports --no-logo
stage "wheel" wheel_is_complete
stage "notebooks clean" notebooks_are_stripped
stage "notebooks run" notebooks_run
stage "pytest" tests "$@"
report
