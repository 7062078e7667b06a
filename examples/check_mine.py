"""Hold own parts to the properties that the project's own parts have: python examples/check_mine.py

Needs hypothesis (pip install 'bittrue[test]').  Whatever fails comes with the smallest example that does.
"""

from pathlib import Path

from training.testing import check_model, check_quantizer, check_requantizer, check_scheme

HERE = Path(__file__).parent

if __name__ == "__main__":
    check_model(f"{HERE}/my_vgg.py:build", examples=5)
    check_scheme(f"{HERE}/my_scheme.py:BORN_AGAIN")
    check_quantizer(f"{HERE}/my_quantizer.py:ABSMAX", examples=20)
    check_requantizer(f"{HERE}/my_requantizer.py:FixedPoint", examples=20)
    print("a network, a scheme, a quantizer and a requantizer: all properties hold")
