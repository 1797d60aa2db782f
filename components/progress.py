"""Progress lines of a step."""


def log_progress(text: str) -> None:
    """`fbt run` shows only lines with this mark."""
    print(f"· {text}", flush=True)
