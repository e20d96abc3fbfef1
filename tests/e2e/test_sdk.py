"""The official SDKs against running servers. SDK_DIR has them installed, beside their tests."""

import os
import subprocess
import unittest

from harness import REAL_LIMIT_S, REAL_MODEL, E2eTest

LIMIT_S = 200


class SdkTest(E2eTest):
    def test_openai(self):
        real = self.sandbox.serve_real()
        fake = self.sandbox.serve({"chat": self.sandbox.fake_model(),
                                   "fragile": self.sandbox.fake_model("crash_after_tokens=0"),
                                   "vectors": self.sandbox.fake_model(server_type="embedding")})
        for model in ("chat", "fragile", "vectors"):
            fake.wait_for_state(model, "ready")
        # Mesa's lavapipe plays the GPU.
        vulkan = self.sandbox.serve({"smollm2": {**REAL_MODEL, "answer_check": "off"}}, engine=None,
                                    engines={"software_devices": True})
        vulkan.wait_for_state("smollm2", "ready", REAL_LIMIT_S)
        environment = self.sandbox.environment(YOKE_URL=real.url, YOKE_FAKE_URL=fake.url,
                                               YOKE_VULKAN_URL=vulkan.url)
        done = subprocess.run(["node", "--test", "openai_test.mjs"], cwd=os.environ["SDK_DIR"],
                              env=environment, timeout=LIMIT_S, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(done.stdout)
        self.assertEqual(done.returncode, 0)
        # A file without tests passes too.
        self.assertRegex(done.stdout, r"(?m)^. pass 1\d$")


if __name__ == "__main__":
    unittest.main()
