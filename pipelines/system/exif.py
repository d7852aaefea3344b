"""How an image is brought upright that a camera took in another position, by its EXIF tags."""

from PIL import ExifTags
from PIL.Image import Transpose

ORIENTATION = int(ExifTags.Base.Orientation)
# By the value of that tag. 1 is upright.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
