"""Compare this project's engine with its peers: the same model, data, lengths, dtype and threads, in one run.

    python -m benchmarks.engine            all parts, into benchmarks/results/cpu.json; about 20 minutes on two cores
    python -m benchmarks.engine --quick    all parts on toy shapes, in a minute

Each comparison starts two processes, one per side, which take turns: while one works, the other waits. See
docs/benchmarks.md for what is compared and how.
"""
