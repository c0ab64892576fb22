"""A codec as a worker: 8-bit mu-law companding (ITU-T G.711's curve, without its segments), numpy only. Runs as it is."""

import numpy as np
import speech_worker


class MuLaw:
    def __init__(self, sample_rate=16000):
        self.spec = {"sample_rate": sample_rate, "hop_length": 1, "codebook_sizes": [256], "causal": True}
        self.about = speech_worker.About(name="mu-law", version="1", origin="none", packages=("numpy",))

    def encode(self, samples):
        x = np.clip(samples, -1, 1)
        y = np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)
        return speech_worker.Codes(np.round((y + 1) * 127.5)[None].astype(np.int64))

    def decode(self, encoded, num_samples):
        y = encoded.indices[0] / 127.5 - 1
        return np.sign(y) * np.expm1(np.abs(y) * np.log(256)) / 255


if __name__ == "__main__":
    speech_worker.serve(MuLaw)
