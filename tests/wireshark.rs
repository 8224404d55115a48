//! Wireshark itself reads what `wireshark` writes.

mod common;

use std::process::Command;

use dietesp::context::IpVersion;
use dietesp::files;
use dietesp::sa::Sa;
use dietesp::wireshark::{Line, write_folder};
use zeroize::Zeroizing;

fn line(sa: &Sa) -> Line<'_> {
    let (src, dst) = (sa.src.single(), sa.dst.single());
    let version = IpVersion::of(src.expect("strongSwan's SAs have addresses"));
    Line { version, src, dst, spi: sa.spi, keys: &sa.keys, esn_high: None }
}

#[test]
fn tshark_decrypts_with_the_folder() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("left out: tshark is not here");
        return;
    }
    let data = common::data();
    for name in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let captures = data.join("captures");
        // Keys as the kernel printed them, so that Wireshark's own file has no part in it.
        let loaded = files::load(&[captures.join(format!("{name}.ip-xfrm-state.txt"))], &[]).unwrap();
        let mut esp_sa = Zeroizing::new(String::new());
        for sa in &loaded.sas {
            line(sa).append_to(&mut esp_sa).unwrap();
        }
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("out.wireshark");
        write_folder(&folder, &esp_sa).unwrap();
        let decrypted = |folder: &std::path::Path| {
            let output = Command::new("tshark")
                .env("WIRESHARK_CONFIG_DIR", folder)
                .args(["-r", captures.join(format!("{name}.pcapng")).to_str().unwrap()])
                .args(["-Y", "esp && udp.port == 5683", "-T", "fields", "-e", "frame.number"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().lines().count()
        };
        assert_eq!(decrypted(&folder), 240, "{name}");
        // It is the folder that does it.
        assert_eq!(decrypted(parent.path()), 0, "{name}");
    }
}
