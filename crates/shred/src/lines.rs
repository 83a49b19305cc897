//! Lines in columns: as texts, or shredded.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int64Array, ListArray, StringArray,
    UInt32Array, new_null_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field};
use arrow_select::concat::concat;
use arrow_select::filter::filter;
use arrow_select::take::take;

use crate::{Kind, Table};

/// The lines of a batch of entries.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one per batch")]
pub enum Lines {
    /// Not read, because nobody asked for them.
    Absent,
    /// As texts, no nulls.
    Text(StringArray),
    /// Taken apart.
    Shredded(ShreddedLines),
}

impl Lines {
    /// The texts, if the lines are texts.
    pub fn text(&self) -> Option<&StringArray> {
        match self {
            Self::Text(lines) => Some(lines),
            Self::Absent | Self::Shredded(_) => None,
        }
    }

    /// How many lines there are; of lines that were not read, none.
    pub fn len(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Text(lines) => lines.len(),
            Self::Shredded(lines) => lines.len(),
        }
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the lines; nothing is copied.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Text(lines) => Self::Text(lines.slice(offset, length)),
            Self::Shredded(lines) => Self::Shredded(lines.slice(offset, length)),
        }
    }

    /// The given lines.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        Ok(match self {
            Self::Absent => Self::Absent,
            Self::Text(lines) => Self::Text(take(lines, rows, None)?.as_string().clone()),
            Self::Shredded(lines) => Self::Shredded(lines.take(rows)?),
        })
    }

    /// As texts; `None` if they were not read.
    pub fn to_text(&self) -> Option<StringArray> {
        match self {
            Self::Absent => None,
            Self::Text(lines) => Some(lines.clone()),
            Self::Shredded(lines) => Some(lines.to_text()),
        }
    }
}

/// An empty array means that the lines were not read.
impl From<StringArray> for Lines {
    fn from(lines: StringArray) -> Self {
        if lines.is_empty() { Self::Absent } else { Self::Text(lines) }
    }
}

/// Lines taken apart. All columns have the same length; cheap to clone and to slice.
#[derive(Debug, Clone)]
pub struct ShreddedLines {
    /// What the numbers of shapes and fields mean.
    pub table: Arc<Table>,
    /// The shape of each row, by [`ShapeId`](crate::ShapeId); null for a line that is not taken apart.
    pub shapes: UInt32Array,
    /// The lines that are not taken apart, null where there is a shape. `None` if no row of the batch has one, or if they were not
    /// read because the query cannot need them.
    pub raw: Option<StringArray>,
    /// By [`FieldId`](crate::FieldId): the values of each field, null in rows whose shape has no gap for it. `None` if not read, or
    /// if no row has one.
    pub fields: Vec<Option<Values>>,
    /// `List<Utf8>`: the values of gaps whose source is [`Source::Rest`](crate::Source). `None` if no row of the batch has any, or not read.
    pub rest: Option<ListArray>,
}

/// The values of a field.
#[derive(Debug, Clone)]
pub enum Values {
    /// Of [`Kind::Dictionary`](crate::Kind).
    Dictionary(DictionaryArray<Int32Type>),
    /// Of [`Kind::Text`](crate::Kind).
    Text(StringArray),
    /// Of [`Kind::Integer`](crate::Kind), and of [`Kind::Decimal`](crate::Kind) in units of its scale.
    Integer(Int64Array),
    /// Of [`Kind::Hex`](crate::Kind): the bytes.
    Hex(FixedSizeBinaryArray),
}

/// Which columns of shredded lines a query touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// None: the lines do not matter.
    Nothing,
    /// The shapes and some values.
    Some {
        /// The fields, ascending.
        fields: Vec<crate::FieldId>,
        /// Whether the rest values are touched.
        rest: bool,
        /// Whether lines that are not taken apart can matter.
        raw: bool,
    },
    /// Everything: lines are put together.
    All,
}

impl ShreddedLines {
    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// The shape of a row, `None` if its line is not taken apart.
    #[inline]
    pub fn shape(&self, row: usize) -> Option<&crate::Shape> {
        if self.shapes.is_null(row) { None } else { self.table.shapes.get(self.shapes.value(row) as usize) }
    }

    /// A part of the lines; nothing is copied. Columns without a value there are left out.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        let fields = self.fields.iter().map(|values| values.as_ref().and_then(|v| v.slice(offset, length)));
        Self {
            table: self.table.clone(),
            shapes: self.shapes.slice(offset, length),
            raw: self.raw.as_ref().map(|raw| raw.slice(offset, length)),
            fields: fields.collect(),
            rest: self.rest.as_ref().map(|rest| rest.slice(offset, length)),
        }
    }

    /// The given lines.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        self.each(|array| take(array, rows, None))
    }

    /// The lines for which `keep` is true.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, ArrowError> {
        self.each(|array| filter(array, keep))
    }

    fn each(&self, change: impl Fn(&dyn Array) -> Result<ArrayRef, ArrowError>) -> Result<Self, ArrowError> {
        let fields = self.fields.iter().map(|v| v.as_ref().map(|v| v.map_ref(&change)).transpose());
        Ok(Self {
            table: self.table.clone(),
            shapes: change(&self.shapes)?.as_primitive().clone(),
            raw: self.raw.as_ref().map(|raw| change(raw).map(|a| a.as_string().clone())).transpose()?,
            fields: fields.collect::<Result<_, _>>()?,
            rest: self.rest.as_ref().map(|rest| change(rest).map(|a| a.as_list().clone())).transpose()?,
        })
    }

    /// Joins lines of one table. A column that only some of them have is null in the others. `None` if there is no part.
    ///
    /// # Errors
    /// If the tables differ.
    pub fn concat(parts: &[Self]) -> Result<Option<Self>, ArrowError> {
        let Some(first) = parts.first() else { return Ok(None) };
        if parts.iter().any(|p| !Arc::ptr_eq(&p.table, &first.table) && p.table != first.table) {
            return Err(ArrowError::InvalidArgumentError("lines of different tables are joined".to_owned()));
        }
        let join = |column: &dyn Fn(&Self) -> Option<ArrayRef>| {
            let arrays: Vec<Option<ArrayRef>> = parts.iter().map(column).collect();
            let Some(data_type) = arrays.iter().flatten().next().map(|a| a.data_type().clone()) else {
                return Ok(None);
            };
            let all = arrays.into_iter().zip(parts);
            let all = all.map(|(a, p)| a.unwrap_or_else(|| new_null_array(&data_type, p.len())));
            let all: Vec<ArrayRef> = all.collect();
            concat(&all.iter().map(|a| &**a).collect::<Vec<_>>()).map(Some)
        };
        let shapes: Vec<&dyn Array> = parts.iter().map(|p| &p.shapes as &dyn Array).collect();
        let fields = (0..first.table.fields.len()).map(|at| {
            let array = join(&|p| p.fields.get(at).and_then(|v| v.as_ref()).map(Values::to_array))?;
            Ok::<_, ArrowError>(array.and_then(|a| Values::from_array(first.table.fields[at].kind, &a)))
        });
        Ok(Some(Self {
            table: first.table.clone(),
            shapes: concat(&shapes)?.as_primitive().clone(),
            fields: fields.collect::<Result<_, _>>()?,
            raw: join(&|p| p.raw.clone().map(|a| Arc::new(a) as ArrayRef))?.map(|a| a.as_string().clone()),
            rest: join(&|p| p.rest.clone().map(|a| Arc::new(a) as ArrayRef))?.map(|a| a.as_list().clone()),
        }))
    }
}

impl Kind {
    /// The type of a column of such values.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Dictionary => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Text => DataType::Utf8,
            Self::Integer | Self::Decimal { .. } => DataType::Int64,
            Self::Hex { bytes } => DataType::FixedSizeBinary(i32::from(bytes)),
        }
    }
}

impl Values {
    /// The values of an array of the type of `kind`; `None` if its type is another.
    pub fn from_array(kind: Kind, array: &dyn Array) -> Option<Self> {
        Some(match kind {
            Kind::Dictionary => {
                let values = array.as_dictionary_opt::<Int32Type>()?;
                values.values().as_string_opt::<i32>()?;
                Self::Dictionary(values.clone())
            }
            Kind::Text => Self::Text(array.as_string_opt()?.clone()),
            Kind::Integer | Kind::Decimal { .. } => {
                Self::Integer(array.as_primitive_opt::<Int64Type>()?.clone())
            }
            Kind::Hex { bytes } => {
                let values = array.as_fixed_size_binary_opt()?;
                Self::Hex((values.value_length() == i32::from(bytes)).then(|| values.clone())?)
            }
        })
    }

    /// The array.
    pub fn as_array(&self) -> &dyn Array {
        match self {
            Self::Dictionary(values) => values,
            Self::Text(values) => values,
            Self::Integer(values) => values,
            Self::Hex(values) => values,
        }
    }

    /// The array, shared.
    pub fn to_array(&self) -> ArrayRef {
        self.as_array().slice(0, self.as_array().len())
    }

    /// Some of the values; `None` if none of those rows has one.
    fn slice(&self, offset: usize, length: usize) -> Option<Self> {
        let nulls = self.as_array().nulls();
        let empty = |nulls: &NullBuffer| {
            nulls.null_count() == nulls.len() || nulls.slice(offset, length).null_count() == length
        };
        if nulls.is_some_and(empty) {
            return None;
        }
        Some(match self {
            Self::Dictionary(values) => Self::Dictionary(values.slice(offset, length)),
            Self::Text(values) => Self::Text(values.slice(offset, length)),
            Self::Integer(values) => Self::Integer(values.slice(offset, length)),
            Self::Hex(values) => Self::Hex(values.slice(offset, length)),
        })
    }

    fn map_ref(
        &self,
        change: impl Fn(&dyn Array) -> Result<ArrayRef, ArrowError>,
    ) -> Result<Self, ArrowError> {
        let changed = change(self.as_array())?;
        Ok(match self {
            Self::Dictionary(_) => Self::Dictionary(changed.as_dictionary().clone()),
            Self::Text(_) => Self::Text(changed.as_string().clone()),
            Self::Integer(_) => Self::Integer(changed.as_primitive().clone()),
            Self::Hex(_) => Self::Hex(changed.as_fixed_size_binary().clone()),
        })
    }
}

/// The field of the list of rest values.
pub fn rest_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8, false))
}
