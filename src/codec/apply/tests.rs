use proptest::prelude::*;

use super::*;
use crate::schc::fields::FIELDS;
use crate::schc::{Action, Compute, Direction, Matching, Rule, Target};

fn row() -> impl Strategy<Value = FieldDescriptor> {
    let length = prop_oneof![
        8 => (1u16..=128).prop_map(FieldLength::Fixed),
        1 => Just(FieldLength::Variable),
        1 => Just(FieldLength::Function),
    ];
    let small = prop_oneof![Just(0u128), 0u128..4, any::<u128>()];
    let target = prop_oneof![
        Just(Target::Empty),
        small.clone().prop_map(Target::Value),
        proptest::collection::vec(small, 0..5).prop_map(Target::List),
    ];
    let matching = prop_oneof![
        Just(Matching::Equal),
        Just(Matching::Ignore),
        (0u16..=130).prop_map(Matching::Msb),
        Just(Matching::MatchMapping),
    ];
    let action = prop_oneof![
        Just(Action::NotSent),
        Just(Action::ValueSent),
        Just(Action::MappingSent),
        Just(Action::Lsb),
        Just(Action::Compute(Compute::Length)),
        (0u16..130).prop_map(Action::Nearest),
    ];
    let direction = prop_oneof![Just(Direction::Both), Just(Direction::Up), Just(Direction::Down)];
    let fid = (0..FIELDS.len()).prop_map(|index| FIELDS[index]);
    (fid, length, direction, target, matching, action).prop_map(|(fid, length, direction, target, matching, action)| {
        FieldDescriptor { fid, length, position: 1, direction, target, matching, action }
    })
}

/// Rules with rows that make sense, so that the test reaches more than the first check.
fn sensible() -> impl Strategy<Value = Rule> {
    proptest::collection::vec(row(), 0..40).prop_map(|mut fields| {
        fields.retain(|row| row.check().is_ok());
        Rule { fields }
    })
}

proptest! {
    #[test]
    fn nothing_panics(
        fields in proptest::collection::vec(row(), 0..8),
        packet in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let rule = Rule { fields };
        for direction in [Direction::Both, Direction::Up, Direction::Down] {
            let _ = rule.apply(direction, &packet);
            let _ = rule.compile(direction);
            let _ = rule.expand(direction, &packet, &[1, 2, 3], 3);
        }
    }

    /// Both implementations produce the same residue, and rebuild the packet.
    #[test]
    fn compiled_and_interpreted_rules_agree(
        rule in sensible(),
        packet in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 128),
        down: bool,
    ) {
        let direction = if down { Direction::Down } else { Direction::Up };
        let applied = rule.apply(direction, &packet);
        if let Ok(applied) = &applied {
            let back = rule.expand(direction, &applied.residue, &packet, applied.header_bits);
            let comes_back = rule.fields.iter().all(|row| {
                matches!(row.length, FieldLength::Fixed(_) | FieldLength::Variable)
                    && !matches!(row.action, Action::Compute(_) | Action::Nearest(_))
                    && (row.action != Action::NotSent || row.matching == Matching::Equal)
            });
            if comes_back {
                prop_assert_eq!(back.map(|back| back.packet), Ok(packet.clone()));
            }
        }
        let Ok(compiled) = rule.compile(direction) else { return Ok(()) };
        let mut residue = vec![0; compiled.residue_bits().div_ceil(8)];
        match (compiled.compress(&packet, &mut residue, 0), applied) {
            (Ok(bits), Ok(applied)) => {
                prop_assert_eq!(bits, applied.residue_bits);
                prop_assert_eq!(residue, applied.residue);
                prop_assert_eq!(compiled.header_bits(), applied.header_bits);
            }
            (Err(_), Err(ApplyError::Unmatched { .. })) => {}
            (compiled, applied) => prop_assert!(false, "{compiled:?} {applied:?}"),
        }
    }
}
