use super::certificate::{Parts, common_name, fingerprint, pem, subject_line};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn pem_of_any_length_reads_back() {
    for n in 1..200u8 {
        let der: Vec<u8> = (0..n).collect();
        let read = CertificateDer::from_pem_slice(pem(&der).as_bytes()).unwrap();
        assert_eq!(read.as_ref(), der);
    }
}

#[test]
fn junk_has_no_common_name() {
    for junk in [
        &[][..],
        &[0x30],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x02, 0x30, 0x00],
    ] {
        assert_eq!(common_name(&CertificateDer::from(junk.to_vec())), None);
        assert_eq!(subject_line(junk), "");
    }
}

/// A certificate that issued itself, made by openssl with an elliptic key.
const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----
MIIB9jCCAZugAwIBAgIUQOsOEjjItJcCNoGuYA56TmucD7swCgYIKoZIzj0EAwIw
UDELMAkGA1UEBhMCVVMxFTATBgNVBAoMDE9wZW4gdlN3aXRjaDEdMBsGCSqGSIb3
DQEJARYObWVAZXhhbXBsZS5jb20xCzAJBgNVBAMMAm1lMB4XDTI2MTEyMTAwMjUw
NVoXDTM2MTExODAwMjUwNVowUDELMAkGA1UEBhMCVVMxFTATBgNVBAoMDE9wZW4g
dlN3aXRjaDEdMBsGCSqGSIb3DQEJARYObWVAZXhhbXBsZS5jb20xCzAJBgNVBAMM
Am1lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBj5HbawkOIuJy6KFI9djWjPd
3pDAcmtSoSsr54hPf95IHF/SSAq0glVySH3NrvErF17d+iHSkwT4Z+cwOnFsO6NT
MFEwHQYDVR0OBBYEFDdiqhTi8imRMCxk+a2S1Y7N8m/3MB8GA1UdIwQYMBaAFDdi
qhTi8imRMCxk+a2S1Y7N8m/3MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SQAwRgIhAPnZ4VqkGjMs2pmzVhCG0NoNU8LnrFids9JvAmeg7JthAiEA/2qs78PE
ayzjzPz1+C97K1MLZzwdwcdgCk9zvVbnxCo=
-----END CERTIFICATE-----
";

#[test]
fn a_certificate_is_taken_apart() {
    let der = CertificateDer::from_pem_slice(SELF_SIGNED.as_bytes()).unwrap();
    let parts = Parts::of(&der).unwrap();
    assert_eq!(parts.version, 3);
    assert!(parts.is_self_issued());
    assert_eq!(parts.valid, (1_795_220_705, 2_110_580_705));
    assert_eq!(common_name(&der).as_deref(), Some("me"));
    assert_eq!(
        subject_line(&der),
        "/C=US/O=Open vSwitch/emailAddress=me@example.com/CN=me"
    );
    assert_eq!(
        fingerprint(&der),
        "d4:bf:c2:89:82:1f:5b:8e:29:6e:e5:ff:cb:94:3c:a1:b0:ba:1e:35"
    );
}

#[test]
fn no_byte_of_a_certificate_can_be_changed_or_lost_to_make_reading_panic() {
    let der = CertificateDer::from_pem_slice(SELF_SIGNED.as_bytes()).unwrap();
    for at in 0..der.len() {
        assert!(Parts::of(&der[..at]).is_none());
        for value in [0, 0x7f, 0x80, 0x84, 0xff] {
            let mut bytes = der.to_vec();
            bytes[at] = value;
            common_name(&CertificateDer::from(bytes.clone()));
            subject_line(&bytes);
        }
    }
}
