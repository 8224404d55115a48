//! Keys are never shown, neither in results, messages nor captures, except where the user asks for keys.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use common::{dietesp, file};

const SAMPLES: [&str; 5] = ["probe", "tcp", "gateway", "ipv4", "transport"];

/// Every key of a key file, in any format.
fn secrets(path: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file(path)).unwrap();
    let words = text.split_whitespace().map(|word| word.trim_start_matches("0x"));
    let long = words.filter(|word| word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    // The first 16 bytes, because in a key of `ip xfrm state` the salt follows.
    let secrets: Vec<Vec<u8>> = long.map(|word| hex::decode(&word[..32]).unwrap()).collect();
    assert!(secrets.len() >= 2, "{path}");
    secrets
}

/// Whether `output` contains `secret`: as bytes, as hex of any case with any separator, or as a list of numbers.
fn shows(output: &[u8], secret: &[u8]) -> bool {
    let holds = |haystack: &[u8], needle: &[u8]| haystack.windows(needle.len()).any(|window| window == needle);
    // Half a key counts, too.
    let half = &secret[..8];
    let digits: Vec<u8> = output.iter().filter(|byte| byte.is_ascii_hexdigit()).map(u8::to_ascii_lowercase).collect();
    let list = half.iter().map(u8::to_string).collect::<Vec<_>>();
    let text = String::from_utf8_lossy(output);
    let numbers: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()).collect();
    holds(output, half)
        || holds(&digits, hex::encode(half).as_bytes())
        || numbers.windows(half.len()).any(|window| window == list.as_slice())
}

#[test]
fn the_search_finds_all_forms_of_a_key() {
    let secret: Vec<u8> = (0x90..0xa0).collect();
    assert!(shows(b"key 90:91:92:93:94:95:96:97:98", &secret));
    assert!(shows(b"0x9091929394959697989A", &secret));
    assert!(shows(b"Secret([144, 145, 146, 147, 148, 149, 150, 151, 152])", &secret));
    assert!(shows(&secret, &secret));
    assert!(!shows(b"9091 and so on", &secret));
    let exported = dietesp(["keys", "export", &file("samples/probe/esp_keys.txt")]).stdout;
    assert!(secrets("samples/probe/esp_keys.txt").iter().all(|secret| shows(&exported, secret)));
}

#[test]
fn no_command_shows_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng");
    let (out_text, root) = (out.to_str().unwrap(), folder.path().to_str().unwrap().to_owned());
    for sample in SAMPLES {
        let capture = file(&format!("samples/{sample}/diet-esp.pcapng"));
        let original = file(&format!("samples/{sample}/original.pcap"));
        let (rules, keys) = (file(&format!("samples/{sample}/rules.yaml")), file(&format!("keys/{sample}.yaml")));
        let esp_keys_name = format!("samples/{sample}/esp_keys.{}", if sample == "probe" { "txt" } else { "yaml" });
        let esp_keys = file(&esp_keys_name);
        let secrets = [secrets(&format!("keys/{sample}.yaml")), secrets(&esp_keys_name)].concat();
        let broken = broken_key_files(&root, &std::fs::read_to_string(&keys).unwrap());

        let mut commands: Vec<Vec<&str>> = vec![
            vec!["decode", &capture, "-r", &rules, "-k", &keys],
            vec!["decode", &capture, "-r", &rules, "-k", &keys, "--format", "jsonl"],
            vec!["decode", &original, "-k", &esp_keys, "--format", "jsonl"],
            vec!["decode", &capture, "-k", &keys, "--failed"],
            vec!["show", &capture, "--frame", "1-", "-r", &rules, "-k", &keys],
            vec!["show", &capture, "--frame", "1-", "-r", &rules, "-k", &keys, "--format", "json"],
            vec!["show", &capture, "--frame", "1-", "-k", &keys],
            vec!["show", &capture, "--frame", "1-", "-k", &keys, "--format", "json"],
            vec!["convert", &capture, "-r", &rules, "-k", &keys, "-o", out_text, "--wireshark", &root],
            vec!["convert", &capture, "-r", &rules, "-k", &keys, "-o", out_text, "--reseal", "keep"],
            vec!["compress", &original, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys, "-o", out_text],
            vec!["keys", "show", &keys, &esp_keys],
            vec!["decode", &capture, "-r", &keys, "-k", &rules],
            vec!["decode", &keys, "-r", &rules, "-k", &keys],
            vec!["decode", &capture, "-k", &keys, "-k", &keys],
        ];
        commands.extend(broken.iter().map(|broken| vec!["decode", &capture, "-r", &rules, "-k", broken]));
        for command in commands {
            let output = dietesp(&command);
            let written = std::fs::read(&out).unwrap_or_default();
            for (place, bytes) in
                [("stdout", &output.stdout), ("stderr", &output.stderr), ("the output file", &written)]
            {
                let shown = secrets.iter().any(|secret| shows(bytes, secret));
                assert!(!shown, "a key in {place} of {command:?}");
            }
        }
    }
}

/// Key files with one error each, always near the keys.
fn broken_key_files(folder: &str, good: &str) -> Vec<String> {
    let replaced = |from: &str, to: &str| good.replace(from, to);
    let faults = [
        ("kye", replaced("    key:", "    kye:")),
        ("tab", replaced("    key:", "\tkey:")),
        ("indent", replaced("    key:", "      key:")),
        ("list", replaced("key: ", "key: [").replace("\n    salt", "]\n    salt")),
        ("quote", replaced("key: ", "key: \"")),
        ("letter", replaced("\n    salt", "g\n    salt")),
        ("long", replaced("\n    salt", "0011\n    salt")),
        ("cut", good[..good.rfind("salt").unwrap()].to_owned()),
    ];
    let write = |(name, broken): (&str, String)| {
        assert_ne!(broken, good);
        let path = format!("{folder}/{name}.yaml");
        std::fs::write(&path, broken).unwrap();
        path
    };
    faults.into_iter().map(write).collect()
}
