"""`python -m unlearnable_bench` is the command `ubench`."""

from unlearnable_bench.cli import main

if __name__ == "__main__":
    main()
