"""What a step tells the person who waits for it."""


def log_progress(text: str) -> None:
    """One line, at once. `fbt run` shows lines with this mark; all others stay in the log."""
    print(f"· {text}", flush=True)
