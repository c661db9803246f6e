"""Teachers of the early alignment: what picture and sound have in common, as one vector each."""

from data_prep.teachers.imagebind import ImageBind
from data_prep.teachers.pe_av import PeAv
from data_prep.teachers.teacher import Teacher, Vectors

__all__ = ["TEACHERS", "Teacher", "Vectors"]

TEACHERS = {"imagebind": ImageBind, "pe-av": PeAv}
