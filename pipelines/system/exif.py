"""How an image is brought upright that a camera took in another position, by its EXIF tags.

Numbers of Pillow's, which a device that only measures does not have.
"""

# ExifTags.Base.Orientation.
ORIENTATION = 274
# Image.Transpose by the value of that tag. 1 is upright.
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
