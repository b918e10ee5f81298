"""What the paper reports, to stand beside what is measured here."""

_FIGURES = ("accuracy", "val_accuracy", "test_accuracy", "loss", "val_loss", "test_loss")

# Table 1 of Hemodynamic Analysis and Diagnosis Based on Multi-Deep Learning Models (2022), by the names that a
# record's history has. It gives whole percents, and does not say of which epoch.
TABLE1 = {
    model: dict(zip(_FIGURES, row, strict=True))
    for model, row in {
        "cnn": (0.93, 0.88, 0.72, 0.0548, 0.5620, 2.0388),
        "xception": (0.97, 0.96, 0.89, 0.0459, 0.0902, 0.0129),
        "inceptionv3": (0.93, 0.93, 0.85, 0.4387, 0.0338, 0.2550),
        "resnet50": (0.93, 0.95, 0.87, 0.0080, 0.0126, 1.6920),
        "squeezenet": (0.96, 0.94, 0.85, 0.1893, 0.0327, 0.0478),
        "googlenet": (0.96, 0.96, 0.86, 0.9427, 0.0419, 0.0375),
        "shufflenetv2": (0.94, 0.95, 0.85, 0.2830, 0.0178, 0.0263),
        "attention56": (0.87, 0.89, 0.83, 0.1553, 0.1405, 0.0186),
        "nasnet": (0.98, 0.97, 0.87, 0.0470, 0.0098, 0.0410),
    }.items()
}
