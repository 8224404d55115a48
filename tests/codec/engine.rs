//! Compares rules as field tables with residues on which microschc and the crate `schc` agree
//! (`tests/data/vectors`).

use dietesp::internals::bits;
use dietesp::internals::schc::fields::FieldId;
use dietesp::internals::schc::*;
use serde_json::Value;

use crate::support::data;

#[test]
fn residues_equal_those_of_two_other_engines() {
    let file = data("vectors/schc_cases.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(cases.len(), 46);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let rule = Rule { fields: case["rule"]["fields"].as_array().unwrap().iter().map(descriptor).collect() };
        let direction = direction(&case["direction"]);
        let compiled = rule.compile(direction).unwrap_or_else(|error| panic!("{name}: {error}"));
        let packet = hex::decode(case["packet_hex"].as_str().unwrap()).unwrap();
        let header_len = case["header_bytes"].as_u64().unwrap() as usize;
        assert_eq!(compiled.header_bits(), header_len * 8, "{name}");

        let mut residue = vec![0; compiled.residue_bits().div_ceil(8)];
        let end = compiled.compress(&packet, &mut residue, 0);
        if !case["match"].as_bool().unwrap() {
            assert!(end.is_err(), "{name}");
            continue;
        }
        let end = end.unwrap_or_else(|unmatched| panic!("{name}: {unmatched:?}"));
        let digits: String = residue.iter().map(|byte| format!("{byte:08b}")).collect();
        assert_eq!(digits[..end], *case["residue_bits"].as_str().unwrap(), "{name}");
        assert_eq!(end, compiled.residue_bits(), "{name}");
        // The residue padded to a byte, then payload: Figure 4 of draft-ietf-ipsecme-diet-esp-07.
        let figure_4 = hex::encode(&residue) + case["payload_hex"].as_str().unwrap();
        assert_eq!(figure_4, case["diet_esp_fig4"]["ruleid_elided_hex"].as_str().unwrap(), "{name}");

        // Decompresses at another bit offset of the residue. Fields with a compute action are still 0.
        let mut expected = packet[..header_len].to_vec();
        let applying = rule.fields.iter().filter(|f| f.direction == Direction::Both || f.direction == direction);
        let mut at = 0;
        for field in applying {
            let FieldLength::Fixed(len) = field.length else { unreachable!() };
            if matches!(field.action, Action::Compute(_)) {
                bits::write(&mut expected, at, len.into(), 0).unwrap();
            }
            at += usize::from(len);
        }
        let mut shifted = vec![0xff; residue.len() + 1];
        bits::copy(&residue, 0, &mut shifted, 3, end).unwrap();
        let mut header = vec![0xee];
        assert_eq!(compiled.expand(&shifted, 3, &mut header), Ok(3 + end), "{name}");
        assert_eq!(hex::encode(&header[1..]), hex::encode(&expected), "{name}");
        if end > 0 {
            let short = &shifted[..(3 + end).div_ceil(8) - 1];
            let unreadable = compiled.expand(short, 3, &mut header);
            assert_eq!(unreadable, Err(ResidueError::Short { needs_bits: 3 + end }), "{name}");
        }
    }
}

fn direction(value: &Value) -> Direction {
    match value.as_str().unwrap() {
        "Up" => Direction::Up,
        "Dw" => Direction::Down,
        "Bi" => Direction::Both,
        other => panic!("{other}"),
    }
}

fn descriptor(row: &Value) -> FieldDescriptor {
    let number = |value: &Value| u128::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap();
    FieldDescriptor {
        fid: FieldId::named(row["FID"].as_str().unwrap()).unwrap(),
        length: FieldLength::Fixed(row["FL"].as_u64().unwrap() as u16),
        position: row["FP"].as_u64().unwrap() as u8,
        direction: direction(&row["DI"]),
        target: match &row["TV"] {
            Value::Null => Target::Empty,
            Value::Array(values) => Target::List(values.iter().map(number).collect()),
            value => Target::Value(number(value)),
        },
        matching: match row["MO"].as_str().unwrap() {
            "equal" => Matching::Equal,
            "ignore" => Matching::Ignore,
            "MSB" => Matching::Msb(row["MO.VAL"].as_u64().unwrap() as u16),
            "match-mapping" => Matching::MatchMapping,
            other => panic!("{other}"),
        },
        action: match row["CDA"].as_str().unwrap() {
            "not-sent" => Action::NotSent,
            "value-sent" => Action::ValueSent,
            "mapping-sent" => Action::MappingSent,
            "LSB" => Action::Lsb,
            "compute" => Action::Compute(Compute::Lower),
            "compute-length" => Action::Compute(Compute::Length),
            "compute-checksum" => Action::Compute(Compute::Checksum),
            other => panic!("{other}"),
        },
    }
}
