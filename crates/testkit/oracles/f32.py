"""Writes MODEL.gguf again with every tensor dequantized to float32, so that llama.cpp, which rounds activations to 8 bit in
front of quantized weights only, can be compared with the float32 reference almost exactly. Usage: f32.py MODEL.gguf OUT.gguf"""

import sys

import gguf
import numpy as np

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
for key, field in reader.fields.items():
    if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
        continue
    element = field.types[-1] if len(field.types) > 1 else None
    writer.add_key_value(key, field.contents(), field.types[0], element)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
