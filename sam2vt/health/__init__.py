"""This machine, checked for what a training needs: packages, devices, codecs, places and Ray's address."""
