"""Numbers of bytes as people read them."""


def in_words(count: float) -> str:
    """ "0 bytes", "83 kB", "1.4 MB", "12.3 GB", "2.1 TB", in powers of 1000."""
    for unit, size, digits in (("TB", 1e12, 1), ("GB", 1e9, 1), ("MB", 1e6, 1), ("kB", 1e3, 0)):
        if count >= size:
            return f"{count / size:.{digits}f} {unit}"
    return f"{count:.0f} bytes"
