"""The formats that networks are exported to, by name; imports nothing."""

FORMATS = ("onnx", "litert", "openvino", "saved-model", "torch")
QUANTIZATIONS = ("none", "float16", "int8-weights", "int8")
"""How the numbers in a file are kept: as float32; as float16; the weights as 8-bit
integers; the weights and what lies between layers as 8-bit integers."""
LONGEST_TEXT = 200
"""The longest text in what a file says of itself, such as the licence."""
