"""Files opened by FFmpeg, through PyAV."""

import av


def open_local(path: str) -> av.container.InputContainer:
    """The container in the file, to be closed by the caller. Raises av.FFmpegError.

    Only local files are read: a playlist that is named .mp4 must not make us fetch what it lists.
    Names and comments may be of any encoding.
    """
    return av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"})
