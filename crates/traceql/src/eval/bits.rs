//! Selections: one bit per row.

use arrow_array::{Array, PrimitiveArray, StringArray, types::ArrowPrimitiveType};
use arrow_buffer::BooleanBuffer;

/// Rows where the array is not null.
pub(crate) fn present(array: &dyn Array) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) => nulls.inner().clone(),
        None => BooleanBuffer::new_set(array.len()),
    }
}

/// Takes null rows out of a selection.
pub(crate) fn mask(bits: BooleanBuffer, array: &dyn Array) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) => &bits & nulls.inner(),
        None => bits,
    }
}

/// Rows whose text passes; nulls never do.
pub(crate) fn strings(array: &StringArray, test: impl Fn(&[u8]) -> bool) -> BooleanBuffer {
    let (offsets, data) = (array.value_offsets(), array.value_data());
    let bits = BooleanBuffer::collect_bool(array.len(), |i| {
        test(&data[offsets[i] as usize..offsets[i + 1] as usize])
    });
    mask(bits, array)
}

/// Rows whose number passes; nulls never do.
pub(crate) fn numbers<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    test: impl Fn(T::Native) -> bool,
) -> BooleanBuffer {
    mask(slice(array.values(), test), array)
}

/// Rows whose number passes.
pub(crate) fn slice<T: Copy>(values: &[T], test: impl Fn(T) -> bool) -> BooleanBuffer {
    BooleanBuffer::collect_bool(values.len(), |i| test(values[i]))
}

/// From items (events, links) to the rows that own them: rows with at least one selected item.
/// `offsets` holds where each row's items begin, and the end.
pub(crate) fn any_item(items: &BooleanBuffer, offsets: &[u32]) -> BooleanBuffer {
    let mut rows = vec![false; offsets.len().saturating_sub(1)];
    let mut row = 0;
    for item in items.set_indices() {
        while offsets[row + 1] as usize <= item {
            row += 1;
        }
        rows[row] = true;
    }
    BooleanBuffer::from(rows)
}

/// Whether any bit of a range is set.
pub(crate) fn any(bits: &BooleanBuffer, from: usize, to: usize) -> bool {
    bits.slice(from, to - from).set_indices().next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_select_their_rows() {
        let items = BooleanBuffer::from(vec![false, true, false, false, true, true]);
        let rows = any_item(&items, &[0, 0, 2, 4, 6, 6]);
        assert_eq!(rows.iter().collect::<Vec<_>>(), [false, true, false, true, false]);
    }
}
