from models.images.geometry import Pixels

def decode(
    data: bytes,
    size: tuple[int, int],
    scale: int,
    corner: tuple[int, int],
    pixels: Pixels,
    stop: bytearray | bytes = ...,
    /,
) -> None: ...
