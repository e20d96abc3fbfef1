"""`yoke pull` over HTTPS: whom it trusts, through proxies, and what it never sends in clear."""

import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from pull_case import TOKEN, Certificates, Faults, Hub, Proxy, PullTestCase


class HttpsTest(PullTestCase):
    """A hub of one's own, or behind a company's proxy: with an authority that nobody else knows."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.certificates = Certificates(pathlib.Path(directory.name))

    def make_hub(self):
        return Hub(tls=self.certificates.context())

    def environment(self, **more):
        environment = super().environment(**more)
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if name not in more:
                environment.pop(name, None)
        return environment

    def trusting(self, **more):
        return {"SSL_CERT_FILE": str(self.certificates.authority), **more}

    def test_an_authority_that_is_not_known(self):
        began = time.monotonic()
        self.check_failure(self.pull(), "certificate", "SSL_CERT_FILE")
        self.assertLess(time.monotonic() - began, 5)  # To try again is of no use.
        self.assertEqual(self.hub.requests, [])

    def test_an_authority_that_is_named(self):
        authority = self.certificates.authority
        directory = self.sandbox.directory / "authorities"
        directory.mkdir()
        name = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", authority], check=True,
                              capture_output=True, text=True).stdout.strip()
        shutil.copy(authority, directory / f"{name}.0")
        for env in ({"SSL_CERT_FILE": str(authority)}, {"REQUESTS_CA_BUNDLE": str(authority)},
                    {"CURL_CA_BUNDLE": str(authority)}, {"SSL_CERT_DIR": str(directory)},
                    {"REQUESTS_CA_BUNDLE": str(directory)}):
            with self.subTest(**env):
                shutil.rmtree(self.models, ignore_errors=True)
                self.check_tiny(self.get(env=env))

    def test_a_file_of_authorities_that_is_not_there(self):
        self.check_failure(self.pull(env={"SSL_CERT_FILE": "/no/such.pem"}), "/no/such.pem",
                           "SSL_CERT_FILE")

    def test_a_token_stays_with_the_hub(self):
        self.hub.gated["org/tiny-GGUF"] = TOKEN
        self.check_tiny(self.get(env=self.trusting(HF_TOKEN=TOKEN)))
        self.assertIn(f"Bearer {TOKEN}", self.hub.tokens_at("hub"))
        self.assertEqual(self.hub.tokens_at("files"), [])

    def test_no_redirect_leads_out_of_encryption(self):
        plain = Hub()
        self.addCleanup(plain.close)
        self.hub.faults = Faults(redirect_to=plain.files_url)
        self.check_failure(self.pull(env=self.trusting(HF_TOKEN=TOKEN)), "without encryption")
        self.assertEqual(plain.requests, [])

    def through(self, proxy, **more):
        return self.trusting(NO_PROXY="", no_proxy="", HTTPS_PROXY=proxy.url,
                             https_proxy=proxy.url, **more)

    def test_a_proxy(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        self.check_tiny(self.get(env=self.through(proxy)))
        ports = {int(target.rsplit(":", 1)[1]) for target in proxy.targets}
        self.assertEqual(ports, {self.hub.hub.server_port, self.hub.files.server_port})
        shutil.rmtree(self.models)
        proxy.targets.clear()
        env = {**self.through(proxy), "NO_PROXY": "127.0.0.1,localhost",
               "no_proxy": "127.0.0.1,localhost"}
        self.check_tiny(self.get(env=env))
        self.assertEqual(proxy.targets, [])

    def test_a_certificate_of_another_host(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        proxy.hosts["hub.test"] = "127.0.0.1"
        endpoint = f"https://hub.test:{self.hub.hub.server_port}"
        self.check_failure(self.pull(env=self.through(proxy, HF_ENDPOINT=endpoint)),
                           "hub.test", "certificate")
        self.assertEqual(len(proxy.targets), 1)

    def test_a_proxy_that_refuses(self):
        proxy = Proxy()
        self.addCleanup(proxy.close)
        for status, mention in ((407, "user and password"), (403, "no_proxy")):
            proxy.status = status
            self.check_failure(self.pull(env=self.through(proxy)), f"status {status}", mention)


if __name__ == "__main__":
    unittest.main()
