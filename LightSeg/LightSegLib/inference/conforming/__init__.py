"""Networks that take FreeSurfer's grid and see all of it: the image brought there, the network in bounded memory."""
