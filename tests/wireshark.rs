//! Wireshark reads the files that `wireshark.rs` writes.

mod common;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use common::{dietesp_ends, file};
use dietesp::internals::files;
use dietesp::internals::net::IpVersion;
use dietesp::internals::sa::Sa;
use dietesp::internals::wireshark::{Line, write_folder};
use zeroize::Zeroizing;

fn line(sa: &Sa) -> Line<'_> {
    let (src, dst) = (sa.src.single(), sa.dst.single());
    let version = IpVersion::of(src.expect("strongSwan's SAs have addresses"));
    Line { version, src, dst, spi: sa.spi, keys: &sa.keys, esn_high: None }
}

#[test]
fn tshark_decrypts_with_the_folder() {
    if Command::new("tshark").arg("--version").output().is_err() {
        println!("skipped: tshark is not here");
        return;
    }
    let data = common::data();
    for name in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let captures = data.join("captures");
        // Keys as printed by the kernel, so that Wireshark's own file is not used.
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
        // Without the files of this folder, nothing is decrypted.
        assert_eq!(decrypted(parent.path()), 0, "{name}");
    }
}

/// How many frames of `capture` match `filter` in Wireshark.
fn matching(config: Option<&Path>, capture: &Path, filter: &str) -> usize {
    let args = ["-n", "-T", "fields", "-e", "frame.number", "-Y", filter, "-r"].map(OsStr::new);
    common::tshark(config, args.into_iter().chain([capture.as_os_str()])).lines().count()
}

/// The samples show decoded packets in Wireshark, so these packets must be valid, too.
#[test]
fn wireshark_finds_no_malformed_packet_in_the_samples() {
    const MALFORMED: &str = "_ws.malformed || _ws.expert.group == \"Malformed\"";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let check = |sample: &str, config: Option<&Path>, capture: &Path, inside: &str, frames: usize| {
        assert_eq!(matching(config, capture, inside), frames, "{sample}: {inside}");
        assert_eq!(matching(config, capture, MALFORMED), 0, "{sample}");
    };
    for (sample, esp_keys, inside, frames) in [
        ("probe", "esp_keys.txt", "coap.code == 2 && coap.opt.uri_path == \"temp\"", 117),
        ("tcp", "esp_keys.yaml", "mqtt.topic == \"temp/20\"", 8),
        ("gateway", "esp_keys.yaml", "coap.code == 2 && coap.opt.uri_path == \"temp\"", 66),
        ("ipv4", "esp_keys.yaml", "coap.code == 69", 20),
        ("transport", "esp_keys.yaml", "coap.code == 68", 20),
    ] {
        let of = |name: &str| file(&format!("samples/{sample}/{name}"));
        let (esp_sa, _) = dietesp_ends(0, ["keys", "export", &of(esp_keys)]);
        std::fs::write(path("esp_sa"), esp_sa).unwrap();
        let config = common::wireshark_config(&path("esp_sa"));
        check(sample, Some(config.path()), of("original.pcap").as_ref(), inside, frames);

        let (diet, rules, keys) = (of("diet-esp.pcapng"), of("rules.yaml"), file(&format!("keys/{sample}.yaml")));
        let [esp, plain] = ["esp", "plain"].map(|to| path(&format!("{sample}-{to}.pcapng")));
        for (to, out) in [("esp", &esp), ("plain", &plain)] {
            let out = out.to_str().unwrap();
            dietesp_ends(0, ["convert", &diet, "-o", out, "--to", to, "-r", &rules, "-k", &keys]);
        }
        check(sample, Some(&path(&format!("{sample}-esp.pcapng.wireshark"))), &esp, inside, frames);
        check(sample, None, &plain, inside, frames);
    }

    let [radio, rules, keys] =
        ["radio.pcap", "rules.yaml", "keys.yaml"].map(|name| file(&format!("samples/radio/{name}")));
    let plain = path("radio-plain.pcapng");
    dietesp_ends(0, ["convert", &radio, "-o", plain.to_str().unwrap(), "--to", "plain", "-r", &rules, "-k", &keys]);
    check("radio", None, &plain, "coap", 40);
    check("radio", None, radio.as_ref(), "zbee_nwk.cmd.id == 8", 6);
}
