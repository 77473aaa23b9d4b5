! A trained model in a solver, see sciml_model.h. Arrays are real(c_float) and contiguous.
! The first index runs fastest in Fortran: what the card calls (channels, x, y) is u(y, x, channels, batch) here.
module sciml_model
    use, intrinsic :: iso_c_binding
    implicit none
    private
    public :: model_t, model_load, model_free, model_inputs, model_size, model_shape, model_run, model_message

    integer, parameter :: most_axes = 8

    type :: model_t
        private
        type(c_ptr) :: handle = c_null_ptr
    end type model_t

    interface
        integer(c_int) function c_load(path, threads, model) bind(c, name="sciml_model_load")
            import :: c_int, c_char, c_ptr
            character(kind=c_char), intent(in) :: path(*)
            integer(c_int), value :: threads
            type(c_ptr), intent(out) :: model
        end function c_load

        subroutine c_free(model) bind(c, name="sciml_model_free")
            import :: c_ptr
            type(c_ptr), value :: model
        end subroutine c_free

        integer(c_int) function c_inputs(model) bind(c, name="sciml_model_inputs")
            import :: c_int, c_ptr
            type(c_ptr), value :: model
        end function c_inputs

        integer(c_int64_t) function c_size(model, array) bind(c, name="sciml_model_size")
            import :: c_int, c_int64_t, c_ptr
            type(c_ptr), value :: model
            integer(c_int), value :: array
        end function c_size

        integer(c_int) function c_shape(model, array, rank, sizes) bind(c, name="sciml_model_shape")
            import :: c_int, c_int64_t, c_ptr
            type(c_ptr), value :: model
            integer(c_int), value :: array
            integer(c_int), intent(out) :: rank
            integer(c_int64_t), intent(out) :: sizes(*)
        end function c_shape

        integer(c_int) function c_run(model, batch, inputs, output) bind(c, name="sciml_model_run")
            import :: c_int, c_int64_t, c_ptr, c_float
            type(c_ptr), value :: model
            integer(c_int64_t), value :: batch
            type(c_ptr), intent(in) :: inputs(*)
            real(c_float), intent(inout) :: output(*)
        end function c_run

        type(c_ptr) function c_message() bind(c, name="sciml_model_message")
            import :: c_ptr
        end function c_message

        integer(c_size_t) function c_length(text) bind(c, name="strlen")
            import :: c_size_t, c_ptr
            type(c_ptr), value :: text
        end function c_length
    end interface

contains

    ! Loads model.onnx; status is 0, or what model_message says went wrong.
    subroutine model_load(model, path, threads, status)
        type(model_t), intent(out) :: model
        character(len=*), intent(in) :: path
        integer, intent(in) :: threads
        integer, intent(out) :: status
        status = int(c_load(trim(path)//c_null_char, int(threads, c_int), model%handle))
    end subroutine model_load

    subroutine model_free(model)
        type(model_t), intent(inout) :: model
        call c_free(model%handle)
        model%handle = c_null_ptr
    end subroutine model_free

    ! Number of inputs.
    integer function model_inputs(model)
        type(model_t), intent(in) :: model
        model_inputs = int(c_inputs(model%handle))
    end function model_inputs

    ! Number of values of one sample of an input, counted from 1, or of the output for array = 0.
    integer(c_int64_t) function model_size(model, array)
        type(model_t), intent(in) :: model
        integer, intent(in) :: array
        model_size = c_size(model%handle, int(array - 1, c_int))
    end function model_size

    ! Sizes of one sample in the order of Fortran, the axis that runs fastest first.
    function model_shape(model, array) result(sizes)
        type(model_t), intent(in) :: model
        integer, intent(in) :: array
        integer(c_int64_t), allocatable :: sizes(:)
        integer(c_int64_t) :: all_sizes(most_axes)
        integer(c_int) :: rank
        if (c_shape(model%handle, int(array - 1, c_int), rank, all_sizes) /= 0) rank = 0
        sizes = all_sizes(rank:1:-1)
    end function model_shape

    ! output = model(inputs): inputs are c_loc of contiguous arrays of `batch` samples each.
    subroutine model_run(model, batch, inputs, output, status)
        type(model_t), intent(in) :: model
        integer, intent(in) :: batch
        type(c_ptr), intent(in) :: inputs(:)
        real(c_float), intent(inout) :: output(*)
        integer, intent(out) :: status
        status = int(c_run(model%handle, int(batch, c_int64_t), inputs, output))
    end subroutine model_run

    ! What went wrong.
    function model_message() result(text)
        character(len=:), allocatable :: text
        character(kind=c_char), pointer :: characters(:)
        type(c_ptr) :: message
        integer :: i, length
        message = c_message()
        length = int(c_length(message))
        call c_f_pointer(message, characters, [length])
        allocate (character(len=length) :: text)
        do i = 1, length
            text(i:i) = characters(i)
        end do
    end function model_message

end module sciml_model
