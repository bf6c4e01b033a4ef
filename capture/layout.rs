//! From bytes of a record to columns: where each field of a table's record lies.
//!
//! Layouts of events come from the BTF of the BPF objects ([`Layout::from_btf`]): struct members are
//! the fields and declaration tags their units, references and meaning. The recorder's own tables
//! ([`crate::capture::record`]) build theirs in Rust. From here on both are the same.

use crate::schema::{ColumnDef, ColumnType, Role, TableDef};
use anyhow::{Context as _, Result, bail};
use libbpf_rs::ReferencesType as _;
use libbpf_rs::btf::types::{Array, DeclTag, Enum, Int, IntEncoding, MemberAttr, Struct, StructMember};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, TypeId};
use std::collections::HashMap;

/// How a field's bytes become a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A little-endian integer of that many bytes.
    Number(usize),
    /// Text up to the first NUL, in that many bytes.
    Chars(usize),
    /// Sixteen bytes.
    Ip,
    /// Two `u16`: offset and length of text that trails the record.
    Trailing,
    /// The same of a stack; the value is the number that [`super::stacks`] gives it.
    Stack,
}

/// One field of a record; the column of the same position in the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// First byte.
    pub offset: usize,
    /// Meaning of the bytes.
    pub kind: FieldKind,
}

/// One table and the shape of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The definition as it goes into the trace.
    pub def: TableDef,
    /// Bytes of the fixed part.
    pub size: usize,
    /// One per column.
    pub fields: Vec<Field>,
    /// Names of the numbers in columns that are enums: enumeration, number, name.
    pub labels: Vec<(String, u64, String)>,
    /// An identity that the probes announce again and again while it is used, and never end.
    pub renewed: bool,
    /// Columns that refer to what a filter may not have selected.
    pub others: Vec<usize>,
}

impl Layout {
    /// The field and definition that satisfy a condition.
    pub fn find(&self, condition: impl Fn(&ColumnDef) -> bool) -> Option<Field> {
        self.def.columns.iter().position(condition).map(|index| self.fields[index])
    }

    /// The tables that an object's structs declare, each with the BTF id of its struct.
    ///
    /// # Errors
    /// When the object has no BTF, or a struct breaks the rules of `bpf/event.h`.
    pub fn from_btf(group: &str, object: &[u8]) -> Result<Vec<(u32, Self)>> {
        let btf = Btf::from_raw(group, object)?.context("the object has no BTF: compile it with -g")?;
        let tags = Tags::of(&btf);
        let mut tables = Vec::new();
        for ty in
            (1..btf.len()).filter_map(|id| btf.type_by_id::<BtfType>(TypeId::from(u32::try_from(id).ok()?)))
        {
            let Some(role) = tags.get(ty.type_id(), None, "table:") else { continue };
            let role = if role == "identity" { Role::Identity } else { Role::Event };
            let Ok(ty) = Struct::try_from(ty) else { bail!("{group}: only structs are tables") };
            let layout = Self::of_struct(&btf, &tags, &ty, role, group)?;
            tables.push((type_number(ty.type_id()), layout));
        }
        Ok(tables)
    }

    fn of_struct(btf: &Btf, tags: &Tags, ty: &Struct, role: Role, group: &str) -> Result<Self> {
        let id = ty.type_id();
        let plain = ty.name().and_then(|name| name.to_str()).context("a table has a name")?;
        let name = tags.get(id, None, "name:").unwrap_or(plain);
        let mut layout = Self {
            def: TableDef {
                number: 0,
                name: name.to_owned(),
                role,
                group: group.to_owned(),
                doc: tags.get(id, None, "doc:").unwrap_or("").to_owned(),
                columns: Vec::new(),
            },
            size: libbpf_rs::HasSize::size(ty),
            fields: Vec::new(),
            labels: Vec::new(),
            renewed: tags.all(id, None).iter().any(|tag| tag == "renewed"),
            others: Vec::new(),
        };
        let mut end = 0;
        for (index, member) in (0u32..).zip(ty.iter()) {
            let at = layout
                .add_member(btf, tags, (id, index), &member)
                .with_context(|| format!("struct {plain}"))?;
            if at.0 != end {
                bail!(
                    "struct {plain}: {} unnamed bytes of padding at {end}: name them and tag them __skip",
                    at.0 - end
                );
            }
            end = at.1;
        }
        if end != layout.size {
            bail!(
                "struct {plain}: {} unnamed bytes of padding at its end: name them and tag them __skip",
                layout.size - end
            );
        }
        Ok(layout)
    }

    /// Adds a column, unless the member is tagged __skip, and returns where the member begins and ends.
    fn add_member(
        &mut self,
        btf: &Btf,
        tags: &Tags,
        at: (TypeId, u32),
        member: &StructMember,
    ) -> Result<(usize, usize)> {
        let name = member.name.and_then(|name| name.to_str()).context("a member has a name")?;
        let MemberAttr::Normal { offset } = member.attr else {
            bail!("{name} is a bit field: use whole bytes")
        };
        let offset = offset as usize / 8;
        let mut found = tags.all(at.0, Some(at.1)).to_vec();
        let ty = resolve(btf, tags, member.ty, &mut found)?;
        let (kind, column, size) = storage(btf, &ty, &found).with_context(|| format!("member {name}"))?;
        if !found.iter().any(|tag| tag == "skip") {
            if found.iter().any(|tag| tag == "other") {
                self.others.push(self.def.columns.len());
            }
            if found.iter().any(|tag| tag == "span") {
                self.ends_span(name);
            }
            let mut def = column_def(name, column, &found);
            if let Ok(named) = Enum::try_from(ty) {
                def.enumeration = self.add_labels(&named)?;
            }
            self.def.columns.push(def);
            self.fields.push(Field { offset, kind });
        }
        Ok((offset, offset + size))
    }

    /// The rows' moment is where what that column measures ended.
    pub fn ends_span(&mut self, column: &str) {
        if let Some(ts) = self.def.time() {
            column.clone_into(&mut self.def.columns[ts].by);
        }
    }

    /// Takes over the names of an enum, without the prefix that C needs, and returns the enum's own.
    fn add_labels(&mut self, named: &Enum) -> Result<String> {
        let name = named.name().and_then(|name| name.to_str()).context("an enum has a name")?;
        for member in named.iter() {
            let member_name =
                member.name.and_then(|name| name.to_str()).context("an enumerator has a name")?;
            let label = member_name.split_once('_').map_or(member_name, |(_, label)| label);
            self.labels.push((name.to_owned(), member.value.cast_unsigned(), label.to_owned()));
        }
        Ok(name.to_owned())
    }
}

fn type_number(id: TypeId) -> u32 {
    u32::from(id)
}

/// Follows typedefs and qualifiers to the type itself, collecting the tags on the way.
fn resolve<'btf>(btf: &'btf Btf, tags: &Tags, id: TypeId, found: &mut Vec<String>) -> Result<BtfType<'btf>> {
    let mut ty = btf.type_by_id::<BtfType>(id).context("a member has a type")?;
    loop {
        found.extend_from_slice(tags.all(ty.type_id(), None));
        match ty.kind() {
            BtfKind::Typedef | BtfKind::Const | BtfKind::Volatile | BtfKind::TypeTag => {
                ty = ty.next_type().context("a typedef has a type")?;
            }
            _ => return Ok(ty),
        }
    }
}

/// How a member of this type is read, stored, and how long it is.
fn storage(btf: &Btf, ty: &BtfType, tags: &[String]) -> Result<(FieldKind, ColumnType, usize)> {
    if tags.iter().any(|tag| tag == "trailing") {
        return Ok((FieldKind::Trailing, ColumnType::Text, 4));
    }
    if tags.iter().any(|tag| tag == "stack") {
        return Ok((FieldKind::Stack, ColumnType::Number { width: 4, signed: false }, 4));
    }
    if tags.iter().any(|tag| tag == "unit:ip") {
        return Ok((FieldKind::Ip, ColumnType::Ip, 16));
    }
    if let Ok(int) = Int::try_from(*ty) {
        let signed = matches!(int.encoding, IntEncoding::Signed);
        return number(usize::from(int.bits) / 8, signed);
    }
    if let Ok(named) = Enum::try_from(*ty) {
        return number(libbpf_rs::HasSize::size(&named), false);
    }
    if let Ok(array) = Array::try_from(*ty) {
        let element = resolve(btf, &Tags::default(), array.ty(), &mut Vec::new())?;
        let chars = Int::try_from(element).is_ok_and(|int| int.bits == 8);
        if chars {
            return Ok((FieldKind::Chars(array.capacity()), ColumnType::Text, array.capacity()));
        }
    }
    bail!(
        "a {:?} cannot be a column: use an integer, an enum, a char array, ip6_t, str_t or stack_id",
        ty.kind()
    )
}

fn number(width: usize, signed: bool) -> Result<(FieldKind, ColumnType, usize)> {
    match width {
        1 | 2 | 4 | 8 => {
            let small = u8::try_from(width).expect("at most 8");
            Ok((FieldKind::Number(width), ColumnType::Number { width: small, signed }, width))
        }
        _ => bail!("an integer of {width} bytes cannot be a column"),
    }
}

/// A column as tags describe it.
pub(crate) fn column_def(name: &str, kind: ColumnType, tags: &[String]) -> ColumnDef {
    let value = |prefix: &str| tags.iter().find_map(|tag| tag.strip_prefix(prefix)).unwrap_or("").to_owned();
    let has = |name: &str| tags.iter().any(|tag| tag == name);
    ColumnDef {
        unit: value("unit:"),
        references: value("ref:"),
        enumeration: value("enum:"),
        null: null_value(&value("null:"), kind),
        by: value("by:"),
        key: has("key"),
        ends: has("ends"),
        histogram: has("hist"),
        totals: value("totals:"),
        doc: value("doc:"),
        ..ColumnDef::new(name, kind)
    }
}

/// The marker as the column stores it: cut to the column's width.
fn null_value(text: &str, kind: ColumnType) -> Option<u64> {
    let value: i64 = text.parse().ok()?;
    let ColumnType::Number { width, .. } = kind else { return None };
    Some(value.cast_unsigned() & (u64::MAX >> (64 - 8 * u32::from(width))))
}

/// Declaration tags by what they are on: a type, or a member of it.
#[derive(Default)]
pub(crate) struct Tags(HashMap<(u32, Option<u32>), Vec<String>>);

impl Tags {
    pub(crate) fn of(btf: &Btf) -> Self {
        let mut tags: HashMap<_, Vec<String>> = HashMap::new();
        for tag in btf.type_by_kind::<DeclTag>() {
            let on = (type_number(tag.referenced_type_id()), tag.component_index());
            let text = tag.name().and_then(|name| name.to_str()).unwrap_or("");
            tags.entry(on).or_default().push(text.to_owned());
        }
        Self(tags)
    }

    pub(crate) fn all(&self, id: TypeId, member: Option<u32>) -> &[String] {
        self.0.get(&(type_number(id), member)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn get(&self, id: TypeId, member: Option<u32>, prefix: &str) -> Option<&str> {
        self.all(id, member).iter().find_map(|tag| tag.strip_prefix(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::probes::FAMILIES;

    #[test]
    fn every_declared_struct_is_a_sound_table() {
        for (group, object) in FAMILIES {
            let tables = Layout::from_btf(group, object).expect("bpf/event.h keeps its rules");
            assert!(!tables.is_empty(), "{group} emits something");
            for (_, layout) in tables {
                assert_eq!(layout.def.columns[0].name, "ts", "{}", layout.def.name);
                assert!(!layout.def.doc.is_empty(), "{} says what it is", layout.def.name);
                assert!(layout.find(|column| column.name == "table").is_none(), "layout only");
            }
        }
    }

    #[test]
    fn tags_of_typedefs_and_members_reach_the_column() {
        let (_, net) = FAMILIES.iter().find(|(group, _)| *group == "net").expect("the family net");
        let tables = Layout::from_btf("net", net).expect("sound");
        let send = &tables.iter().find(|(_, layout)| layout.def.name == "sock_send").expect("sock_send").1;
        let column = |name: &str| &send.def.columns[send.def.column(name).expect(name)];
        assert_eq!((column("latency").unit.as_str(), column("latency").histogram), ("ns", true));
        assert_eq!((column("sock").references.as_str(), column("seq").by.as_str()), ("sock", "sock"));
        assert_eq!((column("ret").signed(), column("requested").null), (true, Some(0xffff_ffff)));
    }
}
