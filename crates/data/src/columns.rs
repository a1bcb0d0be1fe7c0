//! One cell of an arrow column: as text, or as pictures.
//!
//! The types are those that parquet has itself. Arrow's others (large ones, views, dictionaries) are read as these.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, StructArray};
use arrow_schema::DataType;

use crate::dataset::ImageSource;

/// Whether cells of this type are text. A column without values has the null type and says nothing against it.
pub(crate) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Null)
}

/// Whether [`text`] reads cells of this type.
pub(crate) fn is_scalar(kind: &DataType) -> bool {
    match kind {
        DataType::Float32 | DataType::Float64 | DataType::Boolean => true,
        DataType::Decimal128(..) | DataType::Decimal256(..) => true,
        _ => is_text(kind) || kind.is_integer(),
    }
}

/// Whether [`images`] reads cells of this type.
pub(crate) fn is_images(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) => is_image(item.data_type()),
        _ => is_image(kind),
    }
}

fn is_image(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => {
            let fits =
                |name, check: fn(&DataType) -> bool| fields.find(name).map(|(_, field)| check(field.data_type()));
            let (bytes, path) = (fits("bytes", is_binary), fits("path", is_text));
            bytes.or(path).is_some() && bytes.unwrap_or(true) && path.unwrap_or(true)
        }
        _ => is_binary(kind) || is_text(kind),
    }
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::Null)
}

/// A cell as text. Whole floats lose their point (a column of integers with gaps is often stored as floats), truth values
/// are `true` and `false`; a missing value or NaN is `None`.
pub(crate) fn text(column: &dyn Array, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    macro_rules! number {
        ($kind:ty) => {
            Some(column.as_primitive::<$kind>().value(row).to_string())
        };
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_owned()),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 if column.as_primitive::<Float32Type>().value(row).is_nan() => None,
        DataType::Float64 if column.as_primitive::<Float64Type>().value(row).is_nan() => None,
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Decimal128(..) => Some(column.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => Some(column.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Boolean => Some(column.as_boolean().value(row).to_string()),
        // The null type; others are refused when the file is opened.
        _ => None,
    }
}

/// The pictures of a cell: bytes where there are any, else a path, which starts from `root` when it is relative.
///
/// # Errors
/// Why the cell cannot be read.
pub(crate) fn images(column: &dyn Array, row: usize, root: &Path) -> Result<Vec<ImageSource>, String> {
    if column.is_null(row) {
        return Ok(Vec::new());
    }
    let Some(lists) = column.as_list_opt::<i32>() else {
        // A column of single pictures: a row without one is a row of text.
        return Ok(image(column, row, root).into_iter().collect());
    };
    let items = lists.value(row);
    let count = items.len();
    (0..count)
        .map(|i| {
            image(items.as_ref(), i, root)
                .ok_or_else(|| format!("picture {} of {count} has neither bytes nor a path", i + 1))
        })
        .collect()
}

/// One picture; `None` where there is neither a byte nor a path.
fn image(column: &dyn Array, row: usize, root: &Path) -> Option<ImageSource> {
    if column.is_null(row) {
        return None;
    }
    let from_bytes = |bytes: &[u8]| (!bytes.is_empty()).then(|| ImageSource::Bytes(bytes.to_vec()));
    match column.data_type() {
        DataType::Struct(_) => {
            let fields: &StructArray = column.as_struct();
            let field = |name| fields.column_by_name(name).and_then(|field| image(field.as_ref(), row, root));
            field("bytes").or_else(|| field("path"))
        }
        DataType::Binary => from_bytes(column.as_binary::<i32>().value(row)),
        _ => text(column, row).filter(|path| !path.is_empty()).map(|path| ImageSource::Path(root.join(path))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::ListBuilder;
    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray,
        NullArray, StringArray,
    };
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::{Field, Fields};

    use super::*;

    fn texts(column: impl Array) -> Vec<Option<String>> {
        assert!(is_scalar(column.data_type()), "{}", column.data_type());
        (0..column.len()).map(|row| text(&column, row)).collect()
    }

    fn some(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|&value| (!value.is_empty()).then(|| value.to_owned())).collect()
    }

    #[test]
    fn every_kind_of_scalar_becomes_text() {
        assert_eq!(texts(StringArray::from(vec![Some("a"), None])), some(&["a", ""]));
        assert_eq!(texts(Int64Array::from(vec![Some(-3), None])), some(&["-3", ""]));
        assert_eq!(texts(Float64Array::from(vec![3.0, 0.1, f64::NAN])), some(&["3", "0.1", ""]));
        assert_eq!(texts(Float32Array::from(vec![0.1f32])), some(&["0.1"]));
        assert_eq!(texts(BooleanArray::from(vec![true, false])), some(&["true", "false"]));
        assert_eq!(texts(NullArray::new(1)), some(&[""]));
        let decimals = Decimal128Array::from(vec![1250]).with_precision_and_scale(8, 2).unwrap();
        assert_eq!(texts(decimals), some(&["12.50"]));
    }

    fn bytes(values: &[u8]) -> ImageSource {
        ImageSource::Bytes(values.to_vec())
    }

    fn path(value: &str) -> ImageSource {
        ImageSource::Path(Path::new("/root").join(value))
    }

    fn pictures(bytes: ArrayRef, paths: ArrayRef) -> StructArray {
        let fields = vec![
            Field::new("bytes", bytes.data_type().clone(), true),
            Field::new("path", paths.data_type().clone(), true),
        ];
        StructArray::new(Fields::from(fields), vec![bytes, paths], None)
    }

    fn read(column: &dyn Array, row: usize) -> Result<Vec<ImageSource>, String> {
        assert!(is_images(column.data_type()), "{}", column.data_type());
        images(column, row, Path::new("/root"))
    }

    #[test]
    fn single_structs_prefer_bytes_then_paths() {
        let blobs = BinaryArray::from(vec![Some(b"ab".as_slice()), None, None, Some(b"")]);
        let paths = StringArray::from(vec![Some("x.png"), Some("/y.png"), None, Some("z.png")]);
        let column = pictures(Arc::new(blobs), Arc::new(paths));
        assert_eq!(read(&column, 0).unwrap(), [bytes(b"ab")]);
        assert_eq!(read(&column, 1).unwrap(), [ImageSource::Path("/y.png".into())]);
        assert_eq!(read(&column, 2).unwrap(), []);
        assert_eq!(read(&column, 3).unwrap(), [path("z.png")]);
    }

    #[test]
    fn lists_of_structs_with_a_column_of_no_paths() {
        let items = pictures(
            Arc::new(BinaryArray::from(vec![Some(b"a".as_slice()), Some(b"b"), None])),
            Arc::new(NullArray::new(3)),
        );
        let field = Arc::new(Field::new("element", items.data_type().clone(), true));
        let column = ListArray::new(field, OffsetBuffer::from_lengths([2, 0, 1]), Arc::new(items), None);
        assert_eq!(read(&column, 0).unwrap(), [bytes(b"a"), bytes(b"b")]);
        assert_eq!(read(&column, 1).unwrap(), []);
        assert_eq!(read(&column, 2).unwrap_err(), "picture 1 of 1 has neither bytes nor a path");
    }

    #[test]
    fn paths_stand_alone_or_in_lists() {
        let column = StringArray::from(vec![Some("a.png"), None, Some("")]);
        assert_eq!(read(&column, 0).unwrap(), [path("a.png")]);
        assert_eq!(read(&column, 1).unwrap(), []);
        assert_eq!(read(&column, 2).unwrap(), []);
        let mut lists = ListBuilder::new(arrow_array::builder::StringBuilder::new());
        lists.append_value([Some("a.png"), Some("b/c.png")]);
        lists.append_null();
        let column = lists.finish();
        assert_eq!(read(&column, 0).unwrap(), [path("a.png"), path("b/c.png")]);
        assert_eq!(read(&column, 1).unwrap(), []);
    }

    #[test]
    fn other_types_are_refused() {
        let field = |kind| Arc::new(Field::new("item", kind, true));
        assert!(!is_text(&DataType::Int64) && !is_scalar(&DataType::Date32));
        assert!(!is_images(&DataType::Int64) && !is_images(&DataType::List(field(DataType::Int8))));
        assert!(!is_images(&DataType::Struct(Fields::from(vec![Field::new("url", DataType::Utf8, true)]))));
    }
}
