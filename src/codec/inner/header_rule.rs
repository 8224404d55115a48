//! The compiled rule of one header, with the fields that are computed or limited by traffic selectors.

use super::selectors::SelectorField;
use crate::codec::compute::ComputedField;
use crate::codec::restored::{Mismatch, Provenance, Restorable, Source};
use crate::net::IpVersion;
use crate::schc::{Action, Compiled, Direction, FieldDescriptor, FieldMismatch, Rule, RuleError, header_order};

/// A compiled rule with the actions and selectors of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeaderRule {
    pub(super) rule: Compiled,
    pub(super) computed: Box<[ComputedField]>,
    pub(super) sources: Provenance,
    selected: Box<[SelectorField]>,
}

/// The rule of the IP header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IpRule {
    pub(super) version: IpVersion,
    /// The residue contains the length of the packet.
    pub(super) length_sent: bool,
    pub(super) header: HeaderRule,
}

impl HeaderRule {
    /// Compiles `rule`. The actions `extra` are added to those of its rows. `selected` are fields of this header.
    pub(in crate::codec) fn new(
        rule: &Rule,
        extra: &[ComputedField],
        selected: Vec<SelectorField>,
    ) -> Result<HeaderRule, RuleError> {
        HeaderRule::of_direction(rule, Direction::Both, extra, selected)
    }

    /// Compiles the rows for one direction. All of them apply to its packets.
    pub(in crate::codec) fn of_direction(
        rule: &Rule,
        direction: Direction,
        extra: &[ComputedField],
        selected: Vec<SelectorField>,
    ) -> Result<HeaderRule, RuleError> {
        let mut computed = vec![];
        for row in &rule.fields {
            if let Action::Compute(compute) = row.action {
                let problem = "this field cannot be computed by this action";
                computed.push(ComputedField::of(row.fid, compute).ok_or(RuleError { field: row.fid, problem })?);
            }
        }
        computed.extend(extra);
        let mut header = HeaderRule {
            rule: rule.compile(direction)?,
            sources: computed.iter().fold(Provenance::default(), |all, field| all.and(field.source())),
            computed: computed.into(),
            selected: selected.into(),
        };
        let rows: Vec<&FieldDescriptor> = rule.fields.iter().collect();
        let order = header_order(&rows, direction).into_iter();
        let lost: Vec<_> = order.filter(|(index, _)| rows.get(*index).is_some_and(|row| row.is_lossy())).collect();
        for field in lost.iter().flat_map(|(_, field)| Restorable::of(*field)) {
            header.sources.set(field, Source::TargetValue);
        }
        if !lost.is_empty() {
            header.note_checksums();
        }
        Ok(header)
    }

    /// Records that computed checksums differ from the original ones, because they cover values that were not sent.
    pub(in crate::codec) fn note_checksums(&mut self) {
        for field in self.computed.iter().filter_map(|field| field.checksum()) {
            self.sources.set(field, Source::Computed);
        }
    }

    /// Writes the residue of `header` at bit `at`. Returns the position after it.
    pub(super) fn compress(&self, header: &[u8], residue: &mut [u8], at: usize) -> Result<usize, Mismatch> {
        let end = self.rule.compress(header, residue, at).map_err(|unmatched| self.mismatch(unmatched))?;
        for selected in self.selected.iter().filter(|selected| !selected.is_prefix) {
            if let Some(got) = selected.outside(header) {
                return Err(selected.mismatch(got));
            }
        }
        Ok(end)
    }

    #[cold]
    fn mismatch(&self, FieldMismatch { field, got, expected }: FieldMismatch) -> Mismatch {
        let bits = field.bits.map(usize::from);
        let selected = self.selected.iter().find(|selected| selected.field == field.key && Some(selected.bits) == bits);
        match (selected, expected) {
            (Some(selected), _) if !selected.range.contains(got) => selected.mismatch(got),
            _ => FieldMismatch { field, got, expected }.into(),
        }
    }

    /// Whether a rebuilt header has values outside the selectors.
    pub(super) fn is_outside(&self, header: &[u8]) -> bool {
        self.selected.iter().any(|selected| !selected.is_prefix && selected.outside(header).is_some())
    }
}

impl IpRule {
    /// The rule of an IP header of `version`, as in [`HeaderRule::new`].
    pub(in crate::codec) fn new(version: IpVersion, length_sent: bool, header: HeaderRule) -> IpRule {
        IpRule { version, length_sent, header }
    }

    /// The version of the header.
    pub(in crate::codec) fn version(&self) -> IpVersion {
        self.version
    }

    /// Whether the addresses may be restored to other values. The checksums of most transports cover addresses.
    pub(in crate::codec) fn loses_addresses(&self) -> bool {
        [Restorable::Src, Restorable::Dst].iter().any(|field| self.header.sources.of(*field).is_some())
    }
}
