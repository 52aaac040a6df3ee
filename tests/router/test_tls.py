"""Certificates: what contexts are made of files, and what becomes of them when the files change."""

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from router.settings import CallersTls, Tls, TlsVersion
from router.tls import callers_certificates, engines_certificates, flaw


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Return the settings of a router whose certificate an authority has issued."""
    written(authority, tmp_path)
    return CallersTls(tmp_path / "cert.pem", tmp_path / "key.pem")


def written(authority, folder):
    """Write another certificate."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, each in enumerate(issued.cert_chain_pems):
        each.write_to_path(folder / "cert.pem", append=number > 0)


def test_engines_certificates_are_checked_unless_the_configuration_says_otherwise():
    checking = engines_certificates(Tls()).context
    trusting = engines_certificates(Tls(verify=False)).context

    assert (checking.verify_mode, checking.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (trusting.verify_mode, trusting.check_hostname) == (ssl.CERT_NONE, False)


def test_callers_are_spoken_to_in_no_older_version_than_is_allowed(files):
    usual = callers_certificates(files).context
    newest = callers_certificates(
        CallersTls(files.cert_file, files.key_file, TlsVersion.TLS_1_3)
    ).context

    assert usual.minimum_version is ssl.TLSVersion.TLSv1_2
    assert newest.minimum_version is ssl.TLSVersion.TLSv1_3
    assert usual.verify_mode is ssl.CERT_NONE


def test_callers_show_certificates_where_an_authority_is_named(files, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = callers_certificates(
        CallersTls(files.cert_file, files.key_file, client_ca_file=tmp_path / "ca.pem")
    ).context

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_files_are_loaded_again_when_they_changed_and_only_then(files, authority, tmp_path):
    certificates = callers_certificates(files)
    same = certificates.renew()
    written(authority, tmp_path)

    assert not same
    assert certificates.renew()
    assert not certificates.renew()
    assert certificates.files == [str(files.cert_file), str(files.key_file)]


def test_half_a_pair_leaves_the_context_as_it_was(files, authority, tmp_path):
    certificates = callers_certificates(files)
    context = certificates.context
    authority.issue_cert("other").private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(ssl.SSLError):
        certificates.renew()
    refused_again = certificates.renew()
    written(authority, tmp_path)

    assert not refused_again
    assert certificates.renew()
    assert certificates.context is context


def encrypted(path):
    """Put a password on a key."""
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
        )
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "cannot be read: no such file"),
        (lambda path: path.write_text("x"), "cannot be used: "),
        (encrypted, "wants a password; leave it unencrypted"),
    ],
)
def test_files_that_cannot_be_used_are_told_with_the_mend(files, spoil, words):
    whole = flaw(lambda: callers_certificates(files))
    spoil(files.key_file)

    assert whole is None
    assert words in str(flaw(lambda: callers_certificates(files)))
