"""Late fusion: no published weights of its own; ImageNet's ResNets start it."""

from jaxvid.convert.resnet import transfer

HEAD = ("head/{leaf:.+}",)
SOURCES = {}
TRANSFERS = {"resnet": transfer("projection", "fc", "head")}
