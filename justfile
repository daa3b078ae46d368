# Needs a virtual environment that is active: python3 -m venv .venv && . .venv/bin/activate

# The fast loop: under a minute when warm.
check: develop
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test -q -p ullage-core
    ruff check .
    pytest -q -x -n auto --ignore tests/test_demo.py --ignore tests/test_typing.py

# Builds the compiled part in place.
develop:
    pip install -q maturin ruff
    maturin develop --release --extras test

# All benchmarks: rewrites docs/benchmarks.md. 15 minutes on an idle machine.
bench:
    pip install -q -e '.[bench]'
    python bench/report.py

# What a commit must pass.
ci:
    .ci/run
