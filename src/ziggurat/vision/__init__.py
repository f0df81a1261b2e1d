"""Networks of images: backbones, necks, detectors, segmenters."""

from ziggurat._lazy import lazy

_RESNET, _MOBILE = ".backbones.resnet", ".backbones.mobilenet_v2"

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "Detector": ".detection.detector",
        "EfficientNetLite0": ".backbones.efficientnet_lite",
        "FCN8s": ".segmentation.fcn",
        "FCN16s": ".segmentation.fcn",
        "FCN32s": ".segmentation.fcn",
        "FPN": ".necks.fpn",
        "FasterRCNN": ".detection.faster_rcnn",
        "MobileDeepLabV3": ".segmentation.mobile_deeplab",
        "MobileNetV2": _MOBILE,
        "ResNet": _RESNET,
        "RetinaNet": ".detection.retinanet",
        "SSDLite": ".detection.ssdlite",
        "VGG": ".backbones.vgg",
        "WideResNet": ".backbones.wide_resnet",
        "cifar_resnet": _RESNET,
        "cifar_resnet20": _RESNET,
        "cifar_resnet56": _RESNET,
        "faster_rcnn_fpn": ".detection.faster_rcnn",
        "resnet18": _RESNET,
        "resnet34": _RESNET,
        "resnet50": _RESNET,
        "resnet101": _RESNET,
        "resnet152": _RESNET,
    },
)
