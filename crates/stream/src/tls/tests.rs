use super::certificate::{common_name, pem};
use super::config::versions;
use ferrovs_runtime::options::Ssl;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn protocol_lists_and_ranges_are_understood() {
    let count = |text: &str| {
        versions(&Ssl {
            protocols: Some(text.into()),
            ..Ssl::default()
        })
        .len()
    };
    assert_eq!(count("TLSv1.2"), 1);
    assert_eq!(count("TLSv1.2,TLSv1.3"), 2);
    assert_eq!(count("TLSv1.3+"), 1);
    assert_eq!(count("TLSv1-TLSv1.2"), 1);
    assert_eq!(versions(&Ssl::default()).len(), 2);
}

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
    }
}
