"""For models that take images in one position: a template is registered to the image, and the labels come back."""
