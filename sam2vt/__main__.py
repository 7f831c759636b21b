"""Run the command line by `python -m sam2vt`."""

from sam2vt.cli import main

if __name__ == "__main__":
    main()
