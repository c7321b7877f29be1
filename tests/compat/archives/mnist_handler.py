"""Digits of 28 x 28 grey pixels: the class as a number. Differentiable, so that it can be explained."""

from torchvision import transforms
from ts.torch_handler.image_classifier import ImageClassifier


class Digits(ImageClassifier):
    """ImageClassifier with a preprocessing of its own and the arg max for an answer."""

    image_processing = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def postprocess(self, data):
        return data.argmax(1).tolist()
